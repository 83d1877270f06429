// What go-spiffe makes of files of agentca, as JSON: of an identity and a bundle, or of a connection between two identities.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

type facts map[string]any

// svid DIRECTORY BUNDLE TRUST-DOMAIN
func readSvid(arguments []string) (facts, error) {
	svid, bundle, err := identity(arguments[0], arguments[1], spiffeid.RequireTrustDomainFromString(arguments[2]))
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

// mtls SERVER CLIENT BUNDLE TRUST-DOMAIN SERVER-ID AGENT [LISTS]: directories of both, and whom each authorizes
func connect(arguments []string) (facts, error) {
	domain := spiffeid.RequireTrustDomainFromString(arguments[3])
	server, bundle, err := identity(arguments[0], arguments[2], domain)
	if err != nil {
		return nil, err
	}
	client, _, err := identity(arguments[1], arguments[2], domain)
	if err != nil {
		return nil, err
	}
	clients := anyInstanceOf(domain, arguments[5])
	if strings.HasPrefix(arguments[5], "spiffe:") {
		clients = tlsconfig.AuthorizeID(spiffeid.RequireFromString(arguments[5]))
	}
	if len(arguments) > 6 {
		clients = notRevoked(clients, arguments[6])
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(listener, serverConfig(server, bundle, clients)) }()

	connection, err := tls.Dial("tcp", listener.Addr().String(), clientConfig(client, bundle, arguments[4]))
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
