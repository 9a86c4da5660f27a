require("node:http").createServer((request, response) => response.end("never seen")).listen(process.env.PORT, "localhost");
