require("is-odd");
require("node:fs").writeFileSync("page.txt", "built page");
