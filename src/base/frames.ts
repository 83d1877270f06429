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

/** Length, header length, header, and room for so much of the body. */
const encodeHead = (header: object, bodyLength: number, room: number): Buffer => {
  const headerBytes = utf8(JSON.stringify(header))
  const out = Buffer.allocUnsafe(8 + headerBytes.length + room)
  out.writeUInt32BE(4 + headerBytes.length + bodyLength, 0)
  out.writeUInt32BE(headerBytes.length, 4)
  out.set(headerBytes, 8)
  return out
}

/** @returns length, header length, header, body: write it as one piece */
export const encodeFrame = (header: object, body: Uint8Array): Uint8Array => {
  const out = encodeHead(header, body.length, body.length)
  out.set(body, out.length - body.length)
  return out
}

/** To copy more than that costs the event loop more than to write twice. */
const copiedBytes = 1 << 18

/** The same in pieces that are written one right after the other: a long body is not copied, and must not change until it is read. */
export const encodeFramePieces = (header: object, body: Uint8Array): readonly Uint8Array[] =>
  body.length <= copiedBytes ? [encodeFrame(header, body)] : [encodeHead(header, body.length, 0), body]

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

/** Neighbours that are short as one piece each. */
const joined = (pieces: readonly Uint8Array[]): readonly Uint8Array[] => {
  if (pieces.every(piece => piece.length <= copiedBytes)) return pieces.length === 1 ? pieces : [Buffer.concat(pieces)]
  const out: Uint8Array[] = []
  let short: Uint8Array[] = []
  for (const piece of pieces) {
    if (piece.length <= copiedBytes) short.push(piece)
    else {
      if (short.length > 0) out.push(Buffer.concat(short))
      short = []
      out.push(piece)
    }
  }
  return short.length > 0 ? [...out, Buffer.concat(short)] : out
}

/** Collects the frames of one turn of the event loop into one write, or a few where there are long ones. */
export const createFrameWriter = (write: (bytes: Uint8Array) => void): ((frame: Uint8Array) => void) => {
  let pending: Uint8Array[] = []
  return frame => {
    if (pending.length === 0) {
      setImmediate(() => {
        const frames = pending
        pending = []
        for (const bytes of joined(frames)) write(bytes)
      })
    }
    pending.push(frame)
  }
}
