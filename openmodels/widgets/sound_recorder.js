// Record from the microphone or load a WAV file, play it, send it to Python, show the answer.
import { element } from "./element.js";
import { Microphone, readSound } from "./sounds.js";

const PATIENCE = 10000; // milliseconds until the page explains that Python has not replied
let ids = 0;

function render({ model, el }) {
  const id = `openmodels-recorder-${++ids}`;
  const button = (text, label) =>
    element("button", { type: "button", textContent: text }, null, { "aria-label": label });
  const record = button("Record", "Record from the microphone");
  const stop = button("Stop", "Stop recording");
  const play = button("Play", "Play the sound");
  const choose = button("Load a WAV file", "Load a WAV file");
  const ask = button("Ask", "Ask the model about the sound");
  const file = element("input", { type: "file", accept: ".wav,audio/wav,audio/x-wav", hidden: true },
    null, { "aria-label": "WAV file", tabindex: "-1" });
  const meter = element("meter", { min: 0, max: 1, high: 0.9, value: 0 },
    null, { "aria-label": "Loudness of the microphone" });
  const clock = element("span", { className: "clock", textContent: "0.0 s" }, null,
    { "aria-hidden": "true" });
  const words = element("p", { className: "words" }, null, { role: "status" });
  const answer = element("p", { className: "answer" }, null,
    { role: "status", "aria-label": "Answer" });
  const audio = element("audio", {}, null, { "aria-hidden": "true" });
  const row = element("div", { className: "row" });
  row.append(record, stop, play, choose, ask, file);
  const levels = element("div", { className: "row" });
  levels.append(meter, clock);
  const group = element("div", { id, className: "group" }, null,
    { role: "group", "aria-label": "Sound recorder" });
  group.append(row, levels, words, answer, audio);
  el.classList.add("openmodels-recorder");
  el.append(group);

  const state = { url: "", asking: false, timer: 0 };
  const microphone = new Microphone(model.get("longest"), {
    level(value, seconds) {
      meter.value = value;
      clock.textContent = `${seconds.toFixed(1)} s`;
    },
    done: send,
    failed: say,
    changed() {
      const stopped = !stop.disabled && !microphone.recording;
      const started = stop.disabled && microphone.recording;
      if (started) say(`Recording, at most ${microphone.longest} s.`);
      if (!microphone.recording) meter.value = 0;
      update();
      if (started) stop.focus();
      if (stopped) record.focus();
    },
  });

  function update() {
    const busy = microphone.busy;
    record.disabled = busy;
    choose.disabled = busy;
    stop.disabled = !microphone.recording;
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

  async function load() {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    try {
      send(await readSound(chosen, model.get("max_bytes")));
    } catch (error) {
      say(error.message);
    }
  }

  record.onclick = () => {
    audio.pause();
    microphone.start();
  };
  stop.onclick = () => microphone.stop();
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
    if (!microphone.recording) say(model.get("message"));
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
    clearTimeout(state.timer);
    names.forEach((name) => model.off(name, follow));
    model.off("msg:custom", follow);
    microphone.close(true);
    audio.pause();
    URL.revokeObjectURL(state.url);
  };
}

export default { render };
