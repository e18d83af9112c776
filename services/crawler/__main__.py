from services.crawler.bootstrap import main

main()
