import { hello } from "@mono/ui";
document.querySelector("#app").textContent = hello;
