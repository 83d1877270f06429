// What the encodings refuse, by name. Faults of the bytes are `*_malformed`; things that are well-formed but not accepted have a
// name of their own, because faces turn them into different answers. Policy (grants, profiles) is refused elsewhere.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type PkiErrorCode =
  /** A caller handed the writer something that has no encoding: a programming error, never caused by foreign bytes. */
  | 'not_encodable'
  | 'der_malformed'
  | 'pem_malformed'
  | 'pem_wrong_label'
  | 'pem_private_key'
  | 'input_too_large'
  | 'name_malformed'
  | 'agent_name_malformed'
  | 'spiffe_id_malformed'
  | 'trust_domain_malformed'
  | 'serial_malformed'
  | 'algorithm_malformed'
  | 'algorithm_not_allowed'
  | 'signature_malformed'
  | 'signature_invalid'
  | 'key_malformed'
  | 'key_not_allowed'
  | 'extension_malformed'
  | 'extension_duplicate'
  | 'certificate_malformed'
  | 'csr_malformed'
  | 'csr_too_large'
  | 'csr_attribute_not_allowed'
  | 'csr_duplicate_extension'
  | 'csr_requests_ca'
  | 'csr_requests_name_constraints'
  | 'csr_signature_invalid'
  | 'crl_malformed'
  | 'ocsp_malformed'
  | 'ocsp_not_successful'
  | 'ocsp_answer_missing'
  | 'ocsp_responder_not_authorized'
  | 'ocsp_not_current'
  | 'ocsp_nonce_mismatch'

export class PkiError extends AgentCaError<PkiErrorCode> {
  constructor(code: PkiErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'PkiError'
  }
}
