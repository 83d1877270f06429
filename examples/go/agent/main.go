// An agent in Go, with nothing but the standard library and the files that `agentca-agent run` keeps in a directory.
//
// Usage: agent DIRECTORY URL SPIFFE_ID_OF_THE_BACKEND
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func say(facts map[string]any) {
	_ = json.NewEncoder(os.Stdout).Encode(facts)
}

// client reads the roots once and the agent's own files for every new connection, so that renewal needs no restart.
func client(directory, peer string) (*http.Client, error) {
	pem, err := os.ReadFile(filepath.Join(directory, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in ca.crt")
	}
	bundle := filepath.Join(directory, "credential-bundle.pem")
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			// One file holds key and certificate, so that they always fit each other.
			certificate, err := tls.LoadX509KeyPair(bundle, bundle)
			return &certificate, err
		},
		// Who the server is, beside its name in the DNS.
		VerifyConnection: func(state tls.ConnectionState) error {
			uris := state.PeerCertificates[0].URIs
			if len(uris) != 1 || uris[0].String() != peer {
				return fmt.Errorf("expected %s, got %v", peer, uris)
			}
			return nil
		},
	}}}, nil
}

func main() {
	directory, url, peer := os.Args[1], os.Args[2], os.Args[3]
	http, err := client(directory, peer)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		answer, err := http.Get(url)
		if err != nil {
			say(map[string]any{"event": "cut", "reason": err.Error()})
		} else {
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			say(map[string]any{"event": "called", "status": answer.StatusCode, "body": string(body)})
			if answer.StatusCode != 200 {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
