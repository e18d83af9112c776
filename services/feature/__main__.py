from services.feature.bootstrap import main

main()
