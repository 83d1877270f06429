// Answers as bytes. Without Express's own `json` and `send`: they look for things that are switched off here (ETags, JSONP, charsets)
// and cost as much as the routing.
import type { Response } from 'express'
import { printableJson } from '../base/printable.ts'

/** `no-store`: answers speak of one caller at one moment. */
const send = (response: Response, status: number, type: string, text: string): void => {
  response.statusCode = status
  response.setHeader('Content-Type', type)
  response.setHeader('Cache-Control', 'no-store')
  response.end(text)
}

/** JSON that was put together before. */
export const sendJsonText = (response: Response, status: number, json: string): void =>
  send(response, status, 'application/json', json)

export const sendJson = (response: Response, status: number, value: unknown): void =>
  send(response, status, 'application/json', JSON.stringify(value))

/** Names what was sent, and is read by people: on terminals. */
export const sendProblem = (response: Response, status: number, value: unknown): void =>
  send(response, status, 'application/problem+json', printableJson(JSON.stringify(value)))

export const sendPem = (response: Response, text: string): void =>
  send(response, 200, 'application/pem-certificate-chain', text)
