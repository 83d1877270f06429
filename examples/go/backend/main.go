// A backend in Go, with nothing but the standard library: knows its callers by their certificates, asks for each request whether they are
// revoked, and follows the CA's published list. With `agentca-verify` in front of it a revoked agent is refused sooner, by the feed.
//
// Usage: backend DIRECTORY STATUS_URL
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// list is what a published CRL says, and until when it may be believed.
type list struct {
	revoked    map[string]bool
	nextUpdate time.Time
}

type authority struct {
	roots *x509.CertPool
	// chain holds the CA certificates that a list may be signed by, by subject key identifier.
	chain   []*x509.Certificate
	current atomic.Pointer[list]
}

// follow reads the lists again every second: as late as that, and no later, a revoked agent is refused here.
func (a *authority) follow(url string) {
	for ; ; time.Sleep(time.Second) {
		if next, err := a.fetch(url); err != nil {
			fmt.Fprintln(os.Stderr, "the CRL cannot be read:", err)
		} else {
			a.current.Store(next)
		}
	}
}

func (a *authority) fetch(url string) (*list, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	rest, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	next := &list{revoked: map[string]bool{}, nextUpdate: time.Now().AddDate(10, 0, 0)}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return next, nil
		}
		crl, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		if err := a.signed(crl); err != nil {
			return nil, err
		}
		if crl.NextUpdate.Before(next.nextUpdate) {
			next.nextUpdate = crl.NextUpdate
		}
		for _, entry := range crl.RevokedCertificates {
			next.revoked[string(crl.AuthorityKeyId)+entry.SerialNumber.String()] = true
		}
	}
}

func (a *authority) signed(crl *x509.RevocationList) error {
	for _, ca := range a.chain {
		if string(ca.SubjectKeyId) == string(crl.AuthorityKeyId) {
			return crl.CheckSignatureFrom(ca)
		}
	}
	return errors.New("a list of an unknown CA")
}

// agent says who calls, or why they may not: for this request, not for the connection.
func (a *authority) agent(state *tls.ConnectionState) (string, error) {
	leaf := state.VerifiedChains[0][0]
	current := a.current.Load()
	now := time.Now()
	switch {
	case current == nil || now.After(current.nextUpdate):
		return "", errors.New("no fresh list")
	case now.After(leaf.NotAfter):
		return "", errors.New("expired")
	case current.revoked[string(leaf.AuthorityKeyId)+leaf.SerialNumber.String()]:
		return "", errors.New("revoked")
	case len(leaf.URIs) != 1 || !strings.HasPrefix(leaf.URIs[0].Path, "/agent/"):
		return "", errors.New("not an agent")
	}
	return leaf.URIs[0].String(), nil
}

func load(directory string) (*authority, error) {
	a := &authority{roots: x509.NewCertPool()}
	for _, name := range []string{"ca.crt", "tls.crt"} {
		rest, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			return nil, err
		}
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			if certificate.IsCA {
				a.chain = append(a.chain, certificate)
			}
			if name == "ca.crt" {
				a.roots.AddCert(certificate)
			}
		}
	}
	return a, nil
}

func main() {
	directory, status := os.Args[1], os.Args[2]
	authority, err := load(directory)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go authority.follow(status + "/crl/bundle.pem")
	bundle := filepath.Join(directory, "credential-bundle.pem")
	server := &http.Server{
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			ClientAuth: tls.RequireAndVerifyClientCert,
			ClientCAs:  authority.roots,
			// A resumed session would not show its certificate again.
			SessionTicketsDisabled: true,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				certificate, err := tls.LoadX509KeyPair(bundle, bundle)
				return &certificate, err
			},
		},
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			agent, err := authority.agent(r.TLS)
			if err != nil {
				http.Error(w, "refused", http.StatusForbidden)
				return
			}
			fmt.Fprintln(w, "hello", agent)
		}),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for authority.current.Load() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "listening", "port": listener.Addr().(*net.TCPAddr).Port})
	if err := server.ServeTLS(listener, "", ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
