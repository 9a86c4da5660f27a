<?php
header('Content-Type: text/plain');
echo 'PHP ', PHP_MAJOR_VERSION, ' on ', getenv('PORT'), ' says ', $_GET['word'] ?? 'nothing', "\n";
error_log('a line for the log');
