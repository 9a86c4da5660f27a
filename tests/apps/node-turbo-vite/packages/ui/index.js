export const hello = "hello from ui";
