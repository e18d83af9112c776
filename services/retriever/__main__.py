from services.retriever.bootstrap import main

main()
