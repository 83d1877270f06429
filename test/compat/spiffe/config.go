package main

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// identity reads what agentca enroll writes into a directory, and the bundle that the CA serves.
func identity(directory, bundleFile string, domain spiffeid.TrustDomain) (*x509svid.SVID, *spiffebundle.Bundle, error) {
	svid, err := x509svid.Load(filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key"))
	if err != nil {
		return nil, nil, err
	}
	bundle, err := spiffebundle.Load(domain, bundleFile)
	return svid, bundle, err
}

func serverConfig(svid *x509svid.SVID, bundle *spiffebundle.Bundle, clients tlsconfig.Authorizer) *tls.Config {
	config := tlsconfig.MTLSServerConfig(svid, bundle, clients)
	config.SessionTicketsDisabled = true // a resumed session is not checked again
	return config
}

func clientConfig(svid *x509svid.SVID, bundle *spiffebundle.Bundle, server string) *tls.Config {
	return tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(spiffeid.RequireFromString(server)))
}

// anyInstanceOf authorizes an agent by its name: its ID ends with the instance, of which there are many.
func anyInstanceOf(domain spiffeid.TrustDomain, agent string) tlsconfig.Authorizer {
	return tlsconfig.AdaptMatcher(func(id spiffeid.ID) error {
		if !id.MemberOf(domain) || !strings.HasPrefix(id.Path(), "/agent/"+agent+"/i/") {
			return fmt.Errorf("expected agent %s, got %s", agent, id)
		}
		return nil
	})
}
