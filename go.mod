module cooper

go 1.26
