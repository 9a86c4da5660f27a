<?php

namespace Acme;

final class Page
{
    public static function title(string $path): string
    {
        return 'page of ' . $path;
    }
}
