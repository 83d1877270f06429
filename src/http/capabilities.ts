// `GET /v1/capabilities`: what this server knows, from the very tables it works by, so that a client can ask before it tries.

import { keyAlgorithms } from '../pki/algorithms.ts'
import { maxCsrBytes } from '../pki/csr.ts'
import { acknowledgeBody, enrolBody, feedQuery, recoverBody, renewBody } from '../schema/api-bodies.ts'
import { evidenceTypes } from './agent-issuance.ts'
import { maxBodyBytes } from './body.ts'
import { estPaths } from './est-answer.ts'

export const capabilities = {
  api: 'v1',
  evidence: evidenceTypes,
  /** Kinds of key that requests may be for; a profile may take fewer. */
  keyAlgorithms: Object.keys(keyAlgorithms),
  csr: { formats: ['pem', 'base64-der'], maxBytes: maxCsrBytes },
  maxBodyBytes,
  /** Members of each body; any other is refused. */
  bodies: {
    enroll: Object.keys(enrolBody.shape),
    renew: Object.keys(renewBody.shape),
    recover: Object.keys(recoverBody.shape),
    acknowledge: Object.keys(acknowledgeBody.shape),
  },
  /** RFC 7030. */
  est: Object.values(estPaths),
  /** Where the server has a feed. */
  feed: { query: Object.keys(feedQuery.shape) },
} as const
