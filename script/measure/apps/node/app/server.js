const express = require("express");
const helmet = require("helmet");

const app = express();
app.use(helmet());
app.get("/", (request, response) => {
  response.type("text").send("Hello from MARKER\n");
});
app.listen(process.env.PORT, "0.0.0.0");
