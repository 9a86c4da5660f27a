var express = require('express');
var router = express.Router();

router.get('/', function(req, res, next) {
  res.send('Welcome to Express, ' + req.app.get('env'));
});

module.exports = router;
