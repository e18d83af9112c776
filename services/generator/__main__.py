from services.generator.bootstrap import main

main()
