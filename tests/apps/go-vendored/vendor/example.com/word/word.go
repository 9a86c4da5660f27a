package word

const Word = "vendored"
