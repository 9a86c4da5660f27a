<?php

require __DIR__ . '/../vendor/autoload.php';

echo htmlspecialchars(Acme\Page::title($_SERVER['REQUEST_URI']));
