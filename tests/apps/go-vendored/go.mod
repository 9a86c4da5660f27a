module example.com/vendored

go 1.21

require example.com/word v1.2.3
