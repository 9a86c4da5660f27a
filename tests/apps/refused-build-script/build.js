throw new Error("the palette has no colour called teel");
