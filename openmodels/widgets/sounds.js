// Record from the microphone and write WAV files, for the widgets that send sounds to Python.
// Nothing is fetched: the worklet's code is a blob of this page.

export const RATE = 16000; // samples a second of the WAV file that is sent
const WORKLET = `
registerProcessor("openmodels-tap", class extends AudioWorkletProcessor {
  process([input]) {
    if (input[0]) this.port.postMessage(input[0].slice());
    return true;
  }
});`;

// Return a mono WAV file of 16 bits, as an ArrayBuffer, from samples between -1 and 1.
export function encodeWav(samples, rate = RATE) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((c, n) => view.setUint8(at + n, c.charCodeAt()));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, n) => {
    view.setInt16(44 + 2 * n, Math.max(-1, Math.min(1, value)) * 32767, true);
  });
  return view.buffer;
}

// Return samples at 16 kHz; the browser's resampler limits the band.
async function resample(samples, rate) {
  if (rate === RATE || !samples.length) return samples;
  const size = Math.max(1, Math.round((samples.length * RATE) / rate));
  const offline = new OfflineAudioContext(1, size, RATE);
  const buffer = offline.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = offline.createBufferSource();
  source.buffer = buffer;
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

// Call `receive` with blocks of samples of a stream; older browsers have no AudioWorklet.
async function tap(context, stream, receive) {
  const source = context.createMediaStreamSource(stream);
  if (context.audioWorklet) {
    const url = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    try {
      await context.audioWorklet.addModule(url);
      const node = new AudioWorkletNode(context, "openmodels-tap", { channelCount: 1,
        channelCountMode: "explicit" });
      node.port.onmessage = (event) => receive(event.data);
      source.connect(node);
      return;
    } catch (error) {
      console.warn("no AudioWorklet here", error);
    } finally {
      URL.revokeObjectURL(url);
    }
  }
  const node = context.createScriptProcessor(4096, 1, 1);
  node.onaudioprocess = (event) => receive(event.inputBuffer.getChannelData(0).slice());
  source.connect(node);
  node.connect(context.destination);
}

function why(error) {
  const reasons = {
    NotAllowedError: "The browser may not use the microphone.",
    NotFoundError: "This machine has no microphone.",
    NotReadableError: "Another program uses the microphone.",
  };
  return `${reasons[error.name] ?? "The microphone does not work here."} Load a WAV file instead.`;
}

// A recording. events: level(loudness from 0 to 1, seconds), done(a WAV file), failed(the reason),
// changed() whenever `starting` or `recording` change.
export class Microphone {
  constructor(longest, events) {
    this.longest = longest; // seconds; the recording then ends by itself
    this.events = events;
    this.starting = false;
    this.gone = false;
    this.stream = this.context = null;
    this.blocks = [];
    this.count = 0;
  }

  get recording() {
    return Boolean(this.context);
  }

  get busy() {
    return this.starting || this.recording;
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      return this.events.failed("This page may not use a microphone (browsers allow it on https " +
        "and on this machine only). Load a WAV file instead.");
    }
    this.starting = true;
    this.events.changed();
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
      if (this.gone) return this.close();
      this.blocks = [];
      this.count = 0;
      const context = new AudioContext();
      await context.resume();
      await tap(context, this.stream, (block) => this.receive(block));
      this.context = context;
    } catch (error) {
      this.close();
      this.events.failed(why(error));
    } finally {
      this.starting = false;
      this.events.changed();
    }
  }

  receive(block) {
    if (!this.context) return;
    this.blocks.push(block);
    this.count += block.length;
    let power = 0;
    for (const value of block) power += value * value;
    const decibel = 10 * Math.log10(power / block.length + 1e-12);
    const seconds = this.count / this.context.sampleRate;
    this.events.level(Math.max(0, Math.min(1, 1 + decibel / 60)), seconds); // -60 dB: empty
    if (seconds >= this.longest) this.stop();
  }

  async stop() {
    if (!this.context) return;
    const rate = this.context.sampleRate;
    this.close();
    const all = new Float32Array(this.count);
    let at = 0;
    for (const block of this.blocks) {
      all.set(block, at);
      at += block.length;
    }
    this.blocks = [];
    this.events.changed();
    if (!all.length) {
      return this.events.failed("The microphone sent no sound. Load a WAV file instead.");
    }
    const whole = await resample(all, rate);
    if (!this.gone) this.events.done(encodeWav(whole.subarray(0, Math.floor(this.longest * RATE))));
  }

  // Release the microphone. leave: the page is gone, so that nothing may be reported any more.
  close(leave = false) {
    this.gone ||= leave;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close().catch(() => {});
    this.stream = this.context = null;
  }
}

// Return a chosen WAV file's bytes. Throws an Error with the reason if there are too many.
export async function readSound(file, limit) {
  if (file.size > limit) {
    throw new Error(`The file has ${(file.size / 1e6).toFixed(1)} MB, and at most ` +
      `${limit / 1e6} MB fit.`);
  }
  return file.arrayBuffer();
}
