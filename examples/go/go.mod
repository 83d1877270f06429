module agentca.example

go 1.19
