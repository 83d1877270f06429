// `agentca/verifier`: what backends import.

export { type CallRefusalCode, CallRefused, type CallRules, type VerifiedPeer } from '../verify/decision.ts'
export { parseFeedEvent } from '../verify/feed-event.ts'
export type { Freshness } from '../verify/freshness.ts'
export { freshnessAt } from '../verify/freshness.ts'
export { createRevocationState } from '../verify/revocation-state.ts'
export { neededFiles, readDeltaFile, readSnapshotFile, verifyStateHead } from '../verify/signed-state.ts'
export { type PeerCall, type PeerState, type Trust, trustIn, verifyPeer } from '../verify/verify-peer.ts'
export { grpcCaller } from './grpc.ts'
export type { Call, CallCondition, CallRequest, Demand, Judgement, JudgementObserver } from './judgement.ts'
export type { Handler, RequestAgent, WithAgent } from './middleware.ts'
export type { AgentVerifierOptions } from './options.ts'
export { type AgentVerifier, agentVerifier, type VerifierStatus } from './verifier.ts'
