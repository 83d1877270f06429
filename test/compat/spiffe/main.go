// What go-spiffe makes of files of agentca, as JSON: of an identity and a bundle, or of a connection between two identities.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func svidIn(directory string) (*x509svid.SVID, error) {
	certificates, err := os.ReadFile(filepath.Join(directory, "tls.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(directory, "tls.key"))
	if err != nil {
		return nil, err
	}
	return x509svid.Parse(certificates, key)
}

func bundleIn(file, trustDomain string) (*spiffebundle.Bundle, error) {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, err
	}
	bytes, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return spiffebundle.Parse(domain, bytes)
}

type facts map[string]any

// svid DIRECTORY BUNDLE TRUST-DOMAIN
func readSvid(arguments []string) (facts, error) {
	svid, err := svidIn(arguments[0])
	if err != nil {
		return nil, err
	}
	bundle, err := bundleIn(arguments[1], arguments[2])
	if err != nil {
		return nil, err
	}
	id, chains, err := x509svid.Verify(svid.Certificates, bundle)
	if err != nil {
		return nil, err
	}
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	return facts{
		"id":            id.String(),
		"chain":         len(chains[0]),
		"authorities":   len(bundle.X509Authorities()),
		"jwtKeys":       len(bundle.JWTAuthorities()),
		"sequence":      sequence,
		"refreshSecond": hint / time.Second,
	}, nil
}

// serveOne answers one caller with its SPIFFE ID.
func serveOne(listener net.Listener, config *tls.Config) error {
	raw, err := listener.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	connection := tls.Server(raw, config)
	if err := connection.Handshake(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	id, err := x509svid.IDFromCert(connection.ConnectionState().PeerCertificates[0])
	if err != nil {
		return err
	}
	if _, err := io.WriteString(connection, id.String()); err != nil {
		return err
	}
	return connection.Close()
}

// mtls SERVER CLIENT BUNDLE TRUST-DOMAIN SERVER-ID CLIENT-ID [LISTS]: directories of both, and whom each authorizes
func connect(arguments []string) (facts, error) {
	server, err := svidIn(arguments[0])
	if err != nil {
		return nil, err
	}
	client, err := svidIn(arguments[1])
	if err != nil {
		return nil, err
	}
	bundle, err := bundleIn(arguments[2], arguments[3])
	if err != nil {
		return nil, err
	}
	authorizedClient := tlsconfig.AuthorizeID(spiffeid.RequireFromString(arguments[5]))
	if len(arguments) > 6 {
		authorizedClient = notRevoked(authorizedClient, arguments[6])
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(listener, tlsconfig.MTLSServerConfig(server, bundle, authorizedClient)) }()

	authorizedServer := tlsconfig.AuthorizeID(spiffeid.RequireFromString(arguments[4]))
	config := tlsconfig.MTLSClientConfig(client, bundle, authorizedServer)
	connection, err := tls.Dial("tcp", listener.Addr().String(), config)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer connection.Close()
	seen, readErr := io.ReadAll(connection)
	// What the server says about a refusal is more than what the client sees of it.
	if err := <-served; err != nil {
		return nil, err
	}
	if readErr != nil {
		return nil, fmt.Errorf("client: %w", readErr)
	}
	return facts{"seen": string(seen)}, nil
}

func main() {
	run := map[string]func([]string) (facts, error){"svid": readSvid, "mtls": connect}[os.Args[1]]
	found, err := run(os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}
