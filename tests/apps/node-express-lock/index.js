const express = require("express");

const app = express();
app.get("/", (request, response) => response.send("express locked"));
app.listen(process.env.PORT);
