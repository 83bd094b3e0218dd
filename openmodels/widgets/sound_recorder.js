// Record from the microphone or load a WAV file, play it, send it to Python, show the answer.
// Nothing is fetched: the worklet's code is a blob of this page.

const RATE = 16000; // samples a second of the WAV file that is sent
const PATIENCE = 10000; // milliseconds until the page explains that Python has not replied
const WORKLET = `
registerProcessor("openmodels-tap", class extends AudioWorkletProcessor {
  process([input]) {
    if (input[0]) this.port.postMessage(input[0].slice());
    return true;
  }
});`;
let ids = 0;

function element(tag, properties = {}, attributes = {}) {
  const node = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

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

function render({ model, el }) {
  const id = `openmodels-recorder-${++ids}`;
  const button = (text, label) =>
    element("button", { type: "button", textContent: text }, { "aria-label": label });
  const record = button("Record", "Record from the microphone");
  const stop = button("Stop", "Stop recording");
  const play = button("Play", "Play the sound");
  const choose = button("Load a WAV file", "Load a WAV file");
  const ask = button("Ask", "Ask the model about the sound");
  const file = element("input", { type: "file", accept: ".wav,audio/wav,audio/x-wav", hidden: true },
    { "aria-label": "WAV file", tabindex: "-1" });
  const meter = element("meter", { min: 0, max: 1, high: 0.9, value: 0 },
    { "aria-label": "Loudness of the microphone" });
  const clock = element("span", { className: "clock", textContent: "0.0 s" }, { "aria-hidden": "true" });
  const words = element("p", { className: "words" }, { role: "status" });
  const answer = element("p", { className: "answer" }, { role: "status", "aria-label": "Answer" });
  const audio = element("audio", {}, { "aria-hidden": "true" });
  const row = element("div", { className: "row" });
  row.append(record, stop, play, choose, ask, file);
  const levels = element("div", { className: "row" });
  levels.append(meter, clock);
  const group = element("div", { id, className: "group" },
    { role: "group", "aria-label": "Sound recorder" });
  group.append(row, levels, words, answer, audio);
  el.classList.add("openmodels-recorder");
  el.append(group);

  const state = { stream: null, context: null, blocks: [], count: 0, url: "", starting: false,
    gone: false, asking: false, timer: 0 };

  function update() {
    const busy = state.starting || Boolean(state.context);
    record.disabled = busy;
    choose.disabled = busy;
    stop.disabled = !state.context;
    play.disabled = busy || !state.url;
    play.textContent = audio.paused ? "Play" : "Pause";
    play.setAttribute("aria-label", audio.paused ? "Play the sound" : "Pause the sound");
    ask.hidden = !model.get("can_ask");
    ask.disabled = busy || state.asking || !(model.get("seconds") > 0);
  }

  function say(text) {
    words.textContent = text;
  }

  // A page that is restored from a file looks alive, but has no kernel behind it.
  function toPython(content, buffers) {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => {
      state.asking = false;
      say("Python has not replied yet. If the kernel is stopped or new, run this cell again.");
      update();
    }, PATIENCE);
    model.send(content, undefined, buffers);
  }

  function send(buffer) {
    URL.revokeObjectURL(state.url);
    state.url = URL.createObjectURL(new Blob([buffer], { type: "audio/wav" }));
    audio.src = state.url;
    say("The sound goes to Python …");
    toPython({ kind: "sound" }, [buffer]);
    update();
  }

  function close() {
    const context = state.context;
    state.stream?.getTracks().forEach((track) => track.stop());
    context?.close().catch(() => {});
    state.stream = state.context = null;
    meter.value = 0;
  }

  async function finish() {
    const context = state.context;
    if (!context) return;
    const rate = context.sampleRate;
    close();
    const all = new Float32Array(state.count);
    let at = 0;
    for (const block of state.blocks) {
      all.set(block, at);
      at += block.length;
    }
    state.blocks = [];
    update();
    record.focus();
    if (!all.length) return say("The microphone sent no sound. Load a WAV file instead.");
    const whole = await resample(all, rate);
    if (!state.gone) send(encodeWav(whole.subarray(0, Math.floor(model.get("longest") * RATE))));
  }

  function receive(block) {
    const context = state.context;
    if (!context) return;
    state.blocks.push(block);
    state.count += block.length;
    let power = 0;
    for (const value of block) power += value * value;
    const decibel = 10 * Math.log10(power / block.length + 1e-12);
    meter.value = Math.max(0, Math.min(1, 1 + decibel / 60)); // -60 dB and below: empty
    const seconds = state.count / context.sampleRate;
    clock.textContent = `${seconds.toFixed(1)} s`;
    if (seconds >= model.get("longest")) finish();
  }

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      return say("This page may not use a microphone (browsers allow it on https and on this " +
        "machine only). Load a WAV file instead.");
    }
    state.starting = true;
    audio.pause();
    update();
    try {
      state.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
      if (state.gone) return close();
      state.blocks = [];
      state.count = 0;
      const context = new AudioContext();
      await context.resume();
      await tap(context, state.stream, receive);
      state.context = context;
      say(`Recording, at most ${model.get("longest")} s.`);
    } catch (error) {
      close();
      say(why(error));
    } finally {
      state.starting = false;
      update();
      if (state.context) stop.focus();
    }
  }

  async function load() {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    const limit = model.get("max_bytes");
    if (chosen.size > limit) {
      return say(`The file has ${(chosen.size / 1e6).toFixed(1)} MB, and at most ` +
        `${limit / 1e6} MB fit.`);
    }
    send(await chosen.arrayBuffer());
  }

  record.onclick = start;
  stop.onclick = finish;
  choose.onclick = () => file.click();
  file.onchange = load;
  play.onclick = () => (audio.paused ? audio.play() : audio.pause())?.catch?.(() =>
    say("The browser cannot play this file."));
  audio.onplay = audio.onpause = audio.onended = update;
  ask.onclick = () => {
    state.asking = true;
    say("The model listens …");
    update();
    toPython({ kind: "ask" });
  };

  function follow() {
    clearTimeout(state.timer);
    state.asking = false;
    if (!state.context) say(model.get("message"));
    clock.textContent = `${model.get("seconds").toFixed(1)} s`;
    answer.textContent = model.get("answer");
    answer.hidden = !answer.textContent;
    update();
  }
  const names = ["message", "seconds", "answer", "can_ask"].map((name) => `change:${name}`);
  names.forEach((name) => model.on(name, follow));
  model.on("msg:custom", follow);
  follow();

  return () => {
    state.gone = true;
    clearTimeout(state.timer);
    names.forEach((name) => model.off(name, follow));
    model.off("msg:custom", follow);
    close();
    audio.pause();
    URL.revokeObjectURL(state.url);
  };
}

export default { render };
