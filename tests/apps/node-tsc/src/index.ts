import { createServer } from "node:http";

enum Word {
  Compiled = "compiled, enum and all",
}

const words: string = Word.Compiled;
createServer((_request, response) => response.end(words)).listen(process.env.PORT);
