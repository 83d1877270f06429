package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// notRevoked authorizes whom next does, if the lists of its issuers say nothing against it. Lists are read for each connection.
func notRevoked(next tlsconfig.Authorizer, listsFile string) tlsconfig.Authorizer {
	return func(id spiffeid.ID, chains [][]*x509.Certificate) error {
		if err := next(id, chains); err != nil {
			return err
		}
		lists, err := readLists(listsFile)
		if err != nil {
			return err
		}
		err = errors.New("no chain")
		for _, chain := range chains {
			if err = checkChain(chain, lists); err == nil {
				return nil
			}
		}
		return err
	}
}

// checkChain wants a current list of each issuer in the chain, from the leaf's to the root's.
func checkChain(chain []*x509.Certificate, lists []*x509.RevocationList) error {
	for at := 0; at+1 < len(chain); at++ {
		list := listOf(chain[at+1], lists)
		if list == nil || time.Now().After(list.NextUpdate) {
			return fmt.Errorf("no current list of %s", chain[at+1].Subject)
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(chain[at].SerialNumber) == 0 {
				return fmt.Errorf("%s is revoked", chain[at].Subject)
			}
		}
	}
	return nil
}

func listOf(issuer *x509.Certificate, lists []*x509.RevocationList) *x509.RevocationList {
	for _, list := range lists {
		if bytes.Equal(list.RawIssuer, issuer.RawSubject) && list.CheckSignatureFrom(issuer) == nil {
			return list
		}
	}
	return nil
}

func readLists(file string) ([]*x509.RevocationList, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lists []*x509.RevocationList
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}
