// grpc-js as client and as server of ../peer.proto, with messages encoded here: BytesValue is one field.
'use strict'

const grpc = require('@grpc/grpc-js')

const SERVICE = '/octo.interop.v1.Peer/'
const FAIL_TEXT = 'not today: ☕ 100% näin'
const ECHOED = ['x-ascii', 'x-octets-bin']
const TYPE = 'type.googleapis.com/google.protobuf.BytesValue'

// Protobuf, as far as it goes here: varints, and fields of bytes.

function varint (n) {
  const out = []
  for (; n > 127; n = Math.floor(n / 128)) out.push(n % 128 | 128)
  return Buffer.from([...out, n])
}

const bytesField = (number, value) => Buffer.concat([varint(number << 3 | 2), varint(value.length), value])

function * fields (buffer) {
  let at = 0
  const next = () => {
    let n = 0
    for (let shift = 1; ; shift *= 128) {
      if (at >= buffer.length) throw new Error('a message that ends within a field')
      n += (buffer[at] & 127) * shift
      if (buffer[at++] < 128) return n
    }
  }
  while (at < buffer.length) {
    const tag = next()
    const value = next()
    if (tag % 8 === 0) {
      yield [tag >> 3, value]
    } else if (tag % 8 === 2 && at + value <= buffer.length) {
      yield [tag >> 3, buffer.subarray(at, at += value)]
    } else {
      throw new Error(`a field of kind ${tag % 8}`)
    }
  }
}

const fieldsNamed = (buffer, number) => [...fields(buffer)].filter(([n]) => n === number).map(([, value]) => value)
const encode = value => value.length > 0 ? bytesField(1, value) : Buffer.alloc(0)
const decode = buffer => fieldsNamed(buffer, 1)[0] ?? Buffer.alloc(0)

const encodeStatus = (code, message, detail) => Buffer.concat([varint(1 << 3), varint(code), bytesField(2, Buffer.from(message)),
  bytesField(3, Buffer.concat([bytesField(1, Buffer.from(TYPE)), bytesField(2, encode(detail))]))])

function method (name, requestStream, responseStream) {
  return {
    path: SERVICE + name, requestStream, responseStream,
    requestSerialize: encode, requestDeserialize: decode, responseSerialize: encode, responseDeserialize: decode
  }
}

const METHODS = {
  echo: method('Echo', false, false),
  watch: method('Watch', false, true),
  collect: method('Collect', true, false),
  chat: method('Chat', true, true),
  fail: method('Fail', false, false),
  hang: method('Hang', false, true),
  ended: method('Ended', false, false),
  nothing: method('Nothing', false, false)
}

// The server.

function echoed (metadata) {
  const back = new grpc.Metadata()
  for (const key of ECHOED) {
    for (const value of metadata.get(key)) back.add(key, value)
  }
  return back
}

function handlers () {
  const ended = new Map() // name of a Hang: {promise, resolve}
  const endOf = name => {
    const key = name.toString()
    if (!ended.has(key)) {
      const end = {}
      end.promise = new Promise(resolve => { end.resolve = resolve })
      ended.set(key, end)
    }
    return ended.get(key)
  }
  return {
    echo (call, done) {
      const back = echoed(call.metadata)
      call.sendMetadata(back)
      done(null, call.request, back)
    },
    watch (call) {
      for (const number of call.request) call.write(Buffer.from([number]))
      call.end()
    },
    collect (call, done) {
      const all = []
      call.on('data', body => all.push(body))
      call.on('end', () => done(null, Buffer.concat(all)))
    },
    chat (call) {
      call.on('data', body => call.write(body))
      call.on('end', () => call.end())
    },
    fail (call, done) {
      const metadata = new grpc.Metadata()
      metadata.set('grpc-status-details-bin', encodeStatus(grpc.status.FAILED_PRECONDITION, FAIL_TEXT, call.request))
      done({ code: grpc.status.FAILED_PRECONDITION, details: FAIL_TEXT, metadata })
    },
    hang (call) {
      call.write(call.request)
      call.on('cancelled', () => endOf(call.request).resolve())
    },
    ended (call, done) {
      endOf(call.request).promise.then(() => done(null, call.request))
    }
  }
}

function serve () {
  const server = new grpc.Server({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip })
  const { nothing, ...served } = METHODS
  server.addService(served, handlers())
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error
    console.log(`listening 127.0.0.1:${port}`)
  })
  process.stdin.resume()
  process.stdin.on('end', () => server.forceShutdown()) // whoever started it is gone
}

// The client.

function same (got, want) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)]
  if (g !== w) throw new Error(`got ${g?.slice(0, 200)}, want ${w.slice(0, 200)}`)
}

const octets = (from, to) => Buffer.from(Array.from({ length: to - from }, (_, i) => from + i))

class Cases {
  #client
  #gzip

  constructor (client, gzip) {
    this.#client = client
    this.#gzip = gzip
  }

  #call (m, client = this.#client) {
    return [m.path, m.requestSerialize, m.responseDeserialize].reduce((f, arg) => f.bind(client, arg), kindOf(client, m))
  }

  // A unary call; what it brings is headers, body and trailers.
  #unary (m, body, metadata = new grpc.Metadata(), client = this.#client) {
    return new Promise((resolve, reject) => {
      const answer = {}
      const call = this.#call(m, client)(body, metadata, (error, got) => {
        answer.body = got
        answer.error = error
      })
      call.on('metadata', headers => { answer.headers = headers })
      call.on('status', status => {
        answer.trailers = status.metadata
        // The callback and this come in the same turn, in either order.
        setImmediate(() => answer.error ? reject(answer.error) : resolve(answer))
      })
    })
  }

  async #echo (body, client = this.#client) {
    const answer = await this.#unary(METHODS.echo, body, undefined, client)
    if (!answer.body.equals(body)) throw new Error(`${body.length} bytes came back as ${answer.body.length}`)
  }

  async #fails (code, promise) {
    const error = await promise.then(() => ({ code: 'no error' }), error => error)
    same(error.code, code)
    return error
  }

  unary () { return this.#echo(Buffer.from('hello')) }
  empty () { return this.#echo(Buffer.alloc(0)) }
  large () { return this.#echo(Buffer.alloc(3 << 20, '0123456789abcdef')) }

  async server_stream () {
    const got = []
    for await (const body of this.#call(METHODS.watch)(octets(0, 100))) got.push(body)
    same(got, [...octets(0, 100)].map(n => Buffer.from([n])))
  }

  client_stream () {
    return new Promise((resolve, reject) => {
      const call = this.#call(METHODS.collect)((error, body) => error ? reject(error) : resolve(body))
      for (const n of octets(0, 100)) call.write(Buffer.from([n]))
      call.end()
    }).then(body => same(body, octets(0, 100)))
  }

  async bidi_stream () {
    const call = this.#call(METHODS.chat)()
    const answers = call[Symbol.asyncIterator]()
    for (let n = 0; n < 20; n++) {
      call.write(Buffer.alloc(n))
      same((await answers.next()).value, Buffer.alloc(n))
    }
    call.end()
    same((await answers.next()).done, true)
  }

  async metadata () {
    const sent = new grpc.Metadata()
    sent.add('x-ascii', 'one')
    sent.add('x-ascii', 'two')
    sent.add('x-octets-bin', Buffer.from([0, 255, 128]))
    const answer = await this.#unary(METHODS.echo, Buffer.alloc(0), sent)
    for (const got of [answer.headers, answer.trailers]) {
      // grpc-js itself joins the values of a key by commas.
      same(got.get('x-ascii').join(', ').split(/, ?/), ['one', 'two'])
      same(got.get('x-octets-bin'), [Buffer.from([0, 255, 128])])
    }
  }

  async error_details () {
    const error = await this.#fails(grpc.status.FAILED_PRECONDITION, this.#unary(METHODS.fail, Buffer.from('why')))
    same(error.details, FAIL_TEXT)
    const status = error.metadata.get('grpc-status-details-bin')[0]
    same(fieldsNamed(status, 1), [grpc.status.FAILED_PRECONDITION])
    same(fieldsNamed(status, 2).map(String), [FAIL_TEXT])
    same(fieldsNamed(status, 3).map(detail => [String(fieldsNamed(detail, 1)[0]), String(decode(fieldsNamed(detail, 2)[0]))]), [[TYPE, 'why']])
  }

  unimplemented () { return this.#fails(grpc.status.UNIMPLEMENTED, this.#unary(METHODS.nothing, Buffer.alloc(0))) }
  compression () { return this.#echo(Buffer.from('again '.repeat(10_000)), this.#gzip) }

  async #hang (name, options, stop, code) {
    const call = this.#call(METHODS.hang)(Buffer.from(name), options)
    const answers = call[Symbol.asyncIterator]()
    same(String((await answers.next()).value), name)
    stop(call)
    await this.#fails(code, answers.next())
    same(String((await this.#unary(METHODS.ended, Buffer.from(name))).body), name)
  }

  deadline () { return this.#hang('node-deadline', { deadline: Date.now() + 1000 }, () => {}, grpc.status.DEADLINE_EXCEEDED) }
  cancel () { return this.#hang('node-cancel', {}, call => call.cancel(), grpc.status.CANCELLED) }
}

function kindOf (client, m) {
  if (m.requestStream) return m.responseStream ? client.makeBidiStreamRequest : client.makeClientStreamRequest
  return m.responseStream ? client.makeServerStreamRequest : client.makeUnaryRequest
}

async function call (address) {
  const dial = options => new grpc.Client(address, grpc.credentials.createInsecure(), options)
  const clients = [dial({}), dial({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip })]
  const cases = new Cases(...clients)
  for (const name of Object.getOwnPropertyNames(Cases.prototype).filter(name => name !== 'constructor')) {
    let timer
    const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error('it did not end')), 60_000) })
    try {
      await Promise.race([cases[name](), late])
      console.log(`ok ${name}`)
    } catch (error) {
      console.log(`FAILED ${name}: ${String(error).replaceAll('\n', ' ')}`)
    }
    clearTimeout(timer)
  }
  for (const client of clients) client.close()
}

const [what, address] = process.argv.slice(2)
switch (what) {
  case 'version': console.log(require('@grpc/grpc-js/package.json').version); break
  case 'server': serve(); break
  case 'client': call(address); break
  default:
    console.error('what to be: version, server or client')
    process.exitCode = 2
}
