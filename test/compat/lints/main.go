// Runs zlint over files in DER and prints what it finds as JSON, one array. Arguments: KIND=FILE with certificate, crl or ocsp for KIND.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"
)

type finding struct {
	File     string `json:"file"`
	Lint     string `json:"lint"`
	Severity string `json:"severity"`
	Details  string `json:"details"`
}

func results(kind string, der []byte, registry lint.Registry) (*zlint.ResultSet, error) {
	switch kind {
	case "certificate":
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		return zlint.LintCertificateEx(certificate, registry), nil
	case "crl":
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		return zlint.LintRevocationListEx(list, registry), nil
	case "ocsp":
		response, err := ocsp.ParseResponse(der, nil)
		if err != nil {
			return nil, err
		}
		return zlint.LintOcspResponseEx(response, registry), nil
	}
	return nil, fmt.Errorf("expected certificate, crl or ocsp, got %s", kind)
}

func run(arguments []string) error {
	// Rules of associations of public CAs and of root programmes say nothing about a private CA; those of the IETF and the community do.
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC8813, lint.Community,
	}})
	if err != nil {
		return err
	}
	findings := []finding{}
	for _, argument := range arguments {
		kind, file, _ := strings.Cut(argument, "=")
		der, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		set, err := results(kind, der, registry)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for name, result := range set.Results {
			if result.Status >= lint.Notice {
				findings = append(findings, finding{file, name, result.Status.String(), result.Details})
			}
		}
	}
	sort.Slice(findings, func(a, b int) bool {
		return findings[a].File+findings[a].Lint < findings[b].File+findings[b].Lint
	})
	return json.NewEncoder(os.Stdout).Encode(findings)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
