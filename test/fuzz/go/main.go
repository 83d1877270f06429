// Reads every file of a folder as one form and says, one line each, which of them Go's standard library refuses and why.
package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
)

// RFC 6960, section 4.1.1, as far as golang.org/x/crypto/ocsp reads it.
type certID struct {
	HashAlgorithm pkix.AlgorithmIdentifier
	NameHash      []byte
	IssuerKeyHash []byte
	SerialNumber  *big.Int
}

type request struct {
	Cert       certID
	Extensions asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type tbsRequest struct {
	Version       int           `asn1:"explicit,tag:0,default:0,optional"`
	RequestorName asn1.RawValue `asn1:"explicit,tag:1,optional"`
	RequestList   []request
	Extensions    []pkix.Extension `asn1:"explicit,tag:2,optional"`
}

type ocspRequest struct {
	TBSRequest tbsRequest
	Signature  asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

func readRequest(der []byte) error {
	var read ocspRequest
	rest, err := asn1.Unmarshal(der, &read)
	if err == nil && len(rest) > 0 {
		return errors.New("trailing data")
	}
	return err
}

var readers = map[string]func([]byte) error{
	"certificate":  func(der []byte) error { _, err := x509.ParseCertificate(der); return err },
	"csr":          func(der []byte) error { _, err := x509.ParseCertificateRequest(der); return err },
	"crl":          func(der []byte) error { _, err := x509.ParseRevocationList(der); return err },
	"ocsp-request": readRequest,
}

func main() {
	read := readers[os.Args[1]]
	files, err := filepath.Glob(filepath.Join(os.Args[2], "*.der"))
	if err != nil || read == nil || len(files) == 0 {
		fmt.Fprintln(os.Stderr, "expected a form and a folder of .der files")
		os.Exit(2)
	}
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err == nil {
			err = read(der)
		}
		if err != nil {
			fmt.Printf("%s\t%s\n", filepath.Base(file), err)
		}
	}
}
