// Frames on a byte stream: 4 octets length, 4 octets header length, JSON header, binary body. Only framing: what headers mean is for the
// protocols over it (signer, front). Works on any stream; limits hold before anything is buffered for long.
import { fromUtf8, utf8 } from './bytes.ts'
import { AgentCaError } from './errors.ts'

export interface Frame {
  readonly header: Readonly<Record<string, unknown>>
  readonly body: Uint8Array
}

export class FrameError extends AgentCaError<'frame_malformed' | 'frame_too_large'> {}

export const maxHeaderBytes = 65_536

/** @returns length, header length, header, body: write it as one piece */
export const encodeFrame = (header: object, body: Uint8Array): Uint8Array => {
  const headerBytes = utf8(JSON.stringify(header))
  const out = Buffer.allocUnsafe(8 + headerBytes.length + body.length)
  out.writeUInt32BE(4 + headerBytes.length + body.length, 0)
  out.writeUInt32BE(headerBytes.length, 4)
  out.set(headerBytes, 8)
  out.set(body, 8 + headerBytes.length)
  return out
}

const parseHeader = (bytes: Uint8Array): Readonly<Record<string, unknown>> => {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch {
    value = null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FrameError('frame_malformed', 'a frame header must be a JSON object')
  }
  return value as Readonly<Record<string, unknown>>
}

/**
 * Feeds on chunks of any size. `bodyLimit` is asked as soon as a header is there, so that a body beyond the limit of its kind is
 * refused before it is collected.
 * @throws FrameError from the returned function; the stream is then to be destroyed
 */
export const createFrameReader = (
  bodyLimit: (header: Frame['header']) => number,
  onFrame: (frame: Frame) => void,
): ((chunk: Uint8Array) => void) => {
  let chunks: Uint8Array[] = []
  let buffered = 0
  let needed = 8
  let header: { readonly value: Frame['header']; readonly end: number; readonly frameEnd: number } | null = null

  const join = (): Uint8Array => {
    if (chunks.length > 1) chunks = [Buffer.concat(chunks, buffered)]
    return chunks[0] ?? new Uint8Array(0)
  }
  const readHeader = (bytes: Uint8Array): boolean => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const length = view.getUint32(0)
    const headerLength = view.getUint32(4)
    if (headerLength > maxHeaderBytes)
      throw new FrameError('frame_too_large', `a frame header has at most ${maxHeaderBytes} bytes`)
    if (length < 4 + headerLength) throw new FrameError('frame_malformed', 'the header is longer than its frame')
    needed = 8 + headerLength
    if (buffered < needed) return false
    const value = parseHeader(bytes.subarray(8, needed))
    const limit = bodyLimit(value)
    if (length - 4 - headerLength > limit)
      throw new FrameError('frame_too_large', `a body of this kind has at most ${limit} bytes`)
    header = { value, end: needed, frameEnd: 4 + length }
    needed = 4 + length
    return true
  }
  return chunk => {
    if (chunk.length === 0) return
    chunks.push(chunk)
    buffered += chunk.length
    while (buffered >= needed) {
      const bytes = join()
      if (header === null && !readHeader(bytes)) return
      if (header === null || buffered < needed) return
      const { value, end, frameEnd } = header
      const rest = bytes.subarray(frameEnd)
      chunks = rest.length > 0 ? [rest] : []
      buffered = rest.length
      needed = 8
      header = null
      onFrame({ header: value, body: bytes.subarray(end, frameEnd) })
    }
  }
}

/** Collects the frames of one turn of the event loop into one write. */
export const createFrameWriter = (write: (bytes: Uint8Array) => void): ((frame: Uint8Array) => void) => {
  let pending: Uint8Array[] = []
  return frame => {
    if (pending.length === 0) {
      setImmediate(() => {
        const frames = pending
        pending = []
        write(frames.length === 1 ? frames[0]! : Buffer.concat(frames))
      })
    }
    pending.push(frame)
  }
}
