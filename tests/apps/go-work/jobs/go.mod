module example.com/shop/jobs

go 1.22
