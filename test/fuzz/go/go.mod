module agentca.test/fuzz

go 1.21
