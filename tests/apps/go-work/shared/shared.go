package shared

const Word = "from a workspace"
