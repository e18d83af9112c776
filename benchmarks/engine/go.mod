module engine

go 1.22
