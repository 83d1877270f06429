// What linters that nobody here wrote find in what this CA makes, and why it stays. Whatever is not in this table fails the suite, and so does
// whatever is in it and found no more.

/** What is linted, by the names of lints.test.ts; of leaves one of each profile. */
export const leaves = ['acme', 'acme-service', 'agent', 'agent-short', 'api', 'operator', 'service'] as const
export const authorities = ['issuing', 'root'] as const

export interface Accepted {
  readonly by: 'zlint' | 'pkilint'
  readonly lint: string
  readonly of: readonly string[]
  readonly reason: string
}

const noSubjectKeyIdentifier =
  'RFC 5280 §4.2.1.2 recommends a subject key identifier in end entities for finding the right one of several certificates. Nothing is issued ' +
  'under a leaf, so nothing refers to it, and each certificate is 31 bytes shorter.'

const spiffeScheme =
  'SPIFFE IDs are URIs (RFC 3986 §3, X509-SVID §2); the library that pkilint asks for the syntax knows a list of schemes, and spiffe is not in it.'

const localhost =
  'The API answers to localhost as well while it listens on loopback: a name of one label (RFC 6761 §6.3), which no public CA may certify.'

export const accepted: readonly Accepted[] = [
  {
    by: 'zlint',
    lint: 'w_ext_subject_key_identifier_missing_sub_cert',
    of: [...leaves, 'responder'],
    reason: noSubjectKeyIdentifier,
  },
  {
    by: 'pkilint',
    lint: 'pkix.certificate_skid_end_entity_missing',
    of: [...leaves, 'responder'],
    reason: noSubjectKeyIdentifier,
  },
  { by: 'pkilint', lint: 'pkix.invalid_uri_syntax', of: [...leaves, ...authorities], reason: spiffeScheme },
  { by: 'zlint', lint: 'n_san_iana_pub_suffix_empty', of: ['api'], reason: localhost },
  { by: 'pkilint', lint: 'pkix.invalid_domain_name_syntax', of: ['api'], reason: localhost },
]
