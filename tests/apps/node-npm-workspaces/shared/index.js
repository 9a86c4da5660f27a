exports.title = "shared title";
