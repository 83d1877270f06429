// One door to OCSP (RFC 6960): certIDs, requests, responses, and whether to believe one.
export {
  type CertId,
  type CertIdFields,
  type CertIdHash,
  certIdHashes,
  encodeCertId,
  encodeCertIdFor,
  type IssuerHashes,
  issuerHashes,
  type OcspIssuer,
} from './ocsp-cert-id.ts'
export { checkOcspResponse, type OcspCheck, type VerifiedOcspAnswer } from './ocsp-check.ts'
export {
  decodeOcspPath,
  encodeOcspRequest,
  maxOcspCertIds,
  maxOcspNonceBytes,
  maxOcspRequestBytes,
  type OcspRequest,
  type OcspRequestFields,
  parseOcspPath,
  parseOcspRequest,
} from './ocsp-request.ts'
export {
  assembleBasicOcspResponse,
  type BasicOcspResponse,
  type CertStatus,
  encodeOcspError,
  encodeTbsResponseData,
  maxOcspResponseBytes,
  type OcspAnswer,
  type OcspErrorStatus,
  type OcspResponse,
  type ParsedAnswer,
  parseOcspResponse,
  type ResponderId,
  type ResponseDataFields,
} from './ocsp-response.ts'
