import express, { type Request, type Response } from "express";

const app = express();
app.get("/", (_request: Request, response: Response) => {
  response.type("text").send("Hello from MARKER\n");
});
app.listen(Number(process.env.PORT), "0.0.0.0");
