// `agentca/agent`: what programs import. An identity that looks after itself, and its parts for those who want less.

export type { IdentityFacts } from './answer.ts'
export { type Credential, type TlsMaterial, tlsMaterialOf } from './credential.ts'
export { openCredentialDirectory, readCredentialDirectory } from './credential-directory.ts'
export { AgentError, type AgentErrorCode, isTransient } from './errors.ts'
export { type AgentIdentity, agentIdentity, type IdentityStatus } from './identity.ts'
export type { AgentKeyAlgorithm } from './key-pair.ts'
export type { PeerRequestInit } from './peer-fetch.ts'
export type { RenewalState } from './renewal-loop.ts'
export type { AgentIdentityOptions } from './settings.ts'
export type { TrustAnchors } from './trust-anchors.ts'
