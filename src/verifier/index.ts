// `agentca/verifier`: what backends import.

export { type CallRefusalCode, CallRefused, type VerifiedPeer } from '../verify/decision.ts'
export type { Freshness } from '../verify/freshness.ts'
export type { Call, CallCondition, CallRequest, Demand, Judgement, JudgementObserver } from './judgement.ts'
export type { Handler, RequestAgent, WithAgent } from './middleware.ts'
export type { AgentVerifierOptions } from './options.ts'
export { type AgentVerifier, agentVerifier, type VerifierStatus } from './verifier.ts'
