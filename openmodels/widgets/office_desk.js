// The office desk in the browser: the conversation ("chat") and the form for a request ("form").
// All texts are set as text, never as HTML; Python checks what it is sent.
import { element } from "./element.js";
import { PICTURE_TYPES, pngOf, readPicture } from "./pictures.js";
import { Microphone, readSound } from "./sounds.js";

const PATIENCE = 10000; // milliseconds until the page explains that Python has not replied
const NAMES = { request: "You", reply: "Office", error: "Error", note: "Note" };
const STATES = {
  busy: "The office works on your request.",
  waiting: "The office waits for you: press Approve or Deny below.",
};
const CHINESE = /[\u3400-\u9fff]/;
let ids = 0;

const language = (text) => (CHINESE.test(text) ? "zh" : "en");

function text(tag, className, words, parent) {
  return element(tag, { className, textContent: words, lang: language(words) }, parent);
}

// ------------------------------------------------------------------ the conversation
class Chat {
  constructor(model, root) {
    this.model = model;
    this.nodes = new Map();
    this.timer = null;
    this.log = element("div", { className: "log", tabIndex: 0 }, root,
      { role: "log", "aria-label": "Conversation with the office" });
    this.empty = text("p", "empty", "Ask about ships, berths, prices or customs rules. " +
      "The office sees each request on its own, without the earlier ones.", this.log);
    this.state = element("p", { className: "state", hidden: true }, root);
    this.stateWords = element("span", {}, this.state, { role: "status" });
    this.clock = element("span", { className: "clock" }, this.state, { "aria-hidden": "true" });
    this.onEntries = () => this.showEntries();
    this.onState = () => this.showState();
    model.on("change:entries", this.onEntries);
    model.on("change:state", this.onState);
    this.showEntries();
    this.showState();
  }

  showEntries() {
    const entries = this.model.get("entries");
    const current = new Set(entries.map((entry) => entry.id));
    for (const [id, node] of this.nodes) {
      if (current.has(id)) continue;
      node.remove();
      this.nodes.delete(id);
    }
    for (const entry of entries) {
      if (this.nodes.has(entry.id)) continue;
      this.nodes.set(entry.id, this.message(entry));
      this.log.append(this.nodes.get(entry.id));
    }
    this.empty.hidden = entries.length > 0;
    this.log.scrollTop = this.log.scrollHeight;
  }

  message(entry) {
    const node = element("article", { className: `message ${entry.kind}` });
    const title = element("div", { className: "who", textContent: NAMES[entry.kind] }, node);
    title.id = `office-message-${++ids}`;
    node.setAttribute("aria-labelledby", title.id);
    if (entry.picture) this.picture(entry.picture, node);
    if (entry.sound) text("p", "sound", `Sound, ${entry.sound}`, node);
    if (entry.text) text("p", "text", entry.text, node);
    if (entry.kind === "reply") this.parts(entry, node);
    if (entry.detail) this.details("Traceback", node).append(text("pre", "", entry.detail));
    return node;
  }

  picture(bytes, node) {
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    const image = element("img", { alt: "Your picture" }, node);
    image.onload = image.onerror = () => URL.revokeObjectURL(url);
    image.src = url;
  }

  details(title, node) {
    const details = element("details", {}, node);
    element("summary", { textContent: title }, details);
    return details;
  }

  parts(entry, node) {
    for (const source of entry.sources) {
      const details = this.details(`Source ${source.document}`, node);
      details.className = "source";
      text("blockquote", "", source.text, details);
    }
    for (const call of entry.calls) {
      const row = element("div", { className: `call ${call.state}` }, node);
      element("span", { className: "badge", textContent: call.state }, row);
      text("code", "", call.line, row);
      if (call.result) text("div", "result", call.result, row);
    }
    if (entry.hidden) text("p", "cost", `${entry.hidden} are not shown.`, node);
    const foot = element("div", { className: "cost" }, node);
    element("span", { textContent: entry.cost }, foot);
    if (!entry.trace) return;
    const link = element("button", { type: "button", className: "link",
      textContent: "Open the trace", title: `trace ${entry.trace}` }, foot);
    link.onclick = () => this.model.send({ kind: "trace", id: entry.trace });
  }

  // The seconds are drawn here: a change per second would reach screen readers and the kernel.
  showState() {
    clearInterval(this.timer);
    const state = this.model.get("state");
    this.state.hidden = !(state in STATES);
    this.stateWords.textContent = STATES[state] ?? "";
    this.clock.textContent = "";
    if (!(state in STATES)) return;
    const start = Date.now();
    this.timer = setInterval(() => {
      this.clock.textContent = `${Math.round((Date.now() - start) / 1000)} s`;
    }, 1000);
  }

  close() {
    clearInterval(this.timer);
    this.model.off("change:entries", this.onEntries);
    this.model.off("change:state", this.onState);
  }
}

// ------------------------------------------------------------------ the form
class Form {
  constructor(model, root) {
    this.model = model;
    this.number = ++ids;
    this.limits = model.get("limits");
    this.sentText = null; // until Python has accepted it
    this.timer = null;
    this.urls = {};
    this.build(root);
    this.microphone = new Microphone(this.limits.seconds, {
      level: (value, seconds) => {
        this.meter.value = value;
        this.soundWords.textContent = `${seconds.toFixed(1)} s`;
      },
      done: (buffer) => this.send("sound", buffer),
      failed: (words) => this.say(words),
      changed: () => this.recordingChanged(),
    });
    this.listen();
    this.show();
  }

  button(parent, words, handler, label = words) {
    const node = element("button", { type: "button", textContent: words }, parent,
      { "aria-label": label });
    node.onclick = handler;
    return node;
  }

  chooser(parent, label, accept, handler) {
    const input = element("input", { type: "file", accept, hidden: true, tabIndex: -1 }, parent,
      { "aria-label": label });
    input.onchange = () => {
      const [file] = input.files;
      if (file) handler(file);
      input.value = "";
    };
    return this.button(parent, label, () => input.click());
  }

  build(root) {
    const form = element("div", { className: "form" }, root,
      { role: "group", "aria-label": "Request to the office" });
    form.setAttribute("data-lm-suppress-shortcuts", "true");
    this.form = form;
    const id = `office-request-${this.number}`;
    element("label", { textContent: "Request, in English or Chinese", htmlFor: id }, form);
    this.text = element("textarea", { id, rows: 2, maxLength: this.limits.text }, form);
    this.attachments = element("div", { className: "row" }, form);
    this.buildAttachments(this.attachments);

    const row = element("div", { className: "row" }, form);
    this.chooser(row, "Add a picture", PICTURE_TYPES.join(), (file) => this.addPicture(file));
    this.chooser(row, "Add a sound", ".wav,audio/wav,audio/x-wav", (file) => this.addSound(file));
    this.record = this.button(row, "Record", () => this.startRecording(),
      "Record from the microphone");
    this.stop = this.button(row, "Stop", () => this.microphone.stop(), "Stop recording");
    this.meter = element("meter", { min: 0, max: 1, high: 0.9, value: 0, hidden: true }, row,
      { "aria-label": "Loudness of the microphone" });
    this.sendButton = this.button(row, "Send", () => this.submit());
    this.sendButton.className = "send";
    this.message = element("p", { className: "words" }, form, { role: "status" });
    element("p", { className: "hint", textContent: "Enter sends, Shift+Enter starts a line. " +
      "You can drop or paste a picture or a WAV file here." }, form);
  }

  buildAttachments(row) {
    this.picture = element("span", { className: "attached" }, row);
    this.preview = element("img", { alt: "The picture of your request" }, this.picture);
    this.pictureWords = element("span", {}, this.picture);
    this.button(this.picture, "×", () => this.send("picture"), "Remove the picture");
    this.sound = element("span", { className: "attached" }, row);
    this.audio = element("audio", {}, this.sound, { "aria-hidden": "true" });
    this.play = this.button(this.sound, "Play", () => this.playOrPause(), "Play the sound");
    this.soundWords = element("span", {}, this.sound);
    this.removeSound = this.button(this.sound, "×", () => this.send("sound"), "Remove the sound");
  }

  listen() {
    this.form.addEventListener("keydown", (event) => {
      event.stopPropagation(); // JupyterLab has shortcuts of single letters
      // An input method for Chinese ends a word with Enter; that Enter must not send.
      if (event.key !== "Enter" || event.target !== this.text || event.isComposing) return;
      if (event.shiftKey) return;
      event.preventDefault();
      this.submit();
    });
    this.text.addEventListener("paste", (event) => this.addFiles(event, event.clipboardData));
    for (const name of ["dragenter", "dragover"]) {
      this.form.addEventListener(name, (event) => {
        event.preventDefault();
        event.stopPropagation();
        this.form.classList.add("drop");
      });
    }
    this.form.addEventListener("dragleave", (event) => {
      if (!this.form.contains(event.relatedTarget)) this.form.classList.remove("drop");
    });
    this.form.addEventListener("drop", (event) => {
      this.form.classList.remove("drop");
      event.preventDefault();
      event.stopPropagation();
      this.addFiles(event, event.dataTransfer);
    });
    this.audio.onplay = this.audio.onpause = this.audio.onended = () => this.showPlay();
    this.onState = () => this.show();
    this.onDone = () => {
      clearTimeout(this.timer);
      this.sentText = null;
      this.show();
    };
    for (const name of ["attached", "state", "message"]) {
      this.model.on(`change:${name}`, this.onState);
    }
    this.model.on("msg:custom", this.onDone);
  }

  addFiles(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    for (const file of files) {
      const sound = file.type.startsWith("audio/") || /\.wav$/i.test(file.name);
      if (sound) this.addSound(file);
      else this.addPicture(file);
    }
  }

  async addPicture(file) {
    try {
      this.send("picture", await pngOf(await readPicture(file, this.limits)));
    } catch (error) {
      this.say(error.message);
    }
  }

  async addSound(file) {
    try {
      this.send("sound", await readSound(file, this.limits.sound));
    } catch (error) {
      this.say(error.message);
    }
  }

  startRecording() {
    this.audio.pause();
    this.microphone.start();
  }

  recordingChanged() {
    const started = this.stop.hidden && this.microphone.recording;
    const stopped = !this.stop.hidden && !this.microphone.recording;
    this.show();
    if (started) {
      this.say(`Recording, at most ${this.limits.seconds} s.`);
      this.stop.focus();
    }
    if (stopped) {
      this.say("");
      this.record.focus();
    }
  }

  playOrPause() {
    const promise = this.audio.paused ? this.audio.play() : this.audio.pause();
    promise?.catch?.(() => this.say("The browser cannot play this file."));
  }

  // A page that is restored from a file looks alive, but has no kernel behind it.
  toPython(content, buffers) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.sentText = null;
      this.say("Python has not replied yet. It may be busy with another cell. If the kernel is " +
        "stopped or new, run this cell again.");
    }, PATIENCE);
    this.model.send(content, undefined, buffers);
  }

  // Send a picture or a sound to Python, which checks it; without a buffer, remove it.
  send(kind, buffer) {
    URL.revokeObjectURL(this.urls[kind]);
    delete this.urls[kind];
    if (buffer) {
      const type = kind === "picture" ? "image/png" : "audio/wav";
      this.urls[kind] = URL.createObjectURL(new Blob([buffer], { type }));
      if (kind === "picture") this.preview.src = this.urls[kind];
      else this.audio.src = this.urls[kind];
    }
    if (kind === "sound" && !buffer) this.audio.pause();
    if (buffer) this.say(`Python checks the ${kind} …`);
    this.toPython({ kind }, buffer ? [buffer] : []);
  }

  submit() {
    if (this.sendButton.disabled || this.sentText !== null) return;
    this.audio.pause();
    this.sentText = this.text.value;
    this.toPython({ kind: "send", text: this.text.value });
  }

  say(words) {
    this.message.textContent = words;
  }

  showPlay() {
    this.play.textContent = this.audio.paused ? "Play" : "Pause";
    this.play.setAttribute("aria-label", this.audio.paused ? "Play the sound" : "Pause the sound");
  }

  show() {
    const { picture = "", sound = "" } = this.model.get("attached");
    const state = this.model.get("state");
    const { recording } = this.microphone;
    if (state !== "ready" && this.sentText !== null) {
      if (this.text.value === this.sentText) this.text.value = ""; // Python accepted it
    }
    this.picture.hidden = !picture;
    this.preview.hidden = !this.urls.picture; // gone after the page was loaded again
    this.pictureWords.textContent = picture;
    this.sound.hidden = !sound && !recording;
    this.play.hidden = recording || !this.urls.sound;
    this.removeSound.hidden = recording;
    this.soundWords.textContent = recording ? this.soundWords.textContent : sound;
    this.attachments.hidden = this.picture.hidden && this.sound.hidden;
    this.record.disabled = this.microphone.busy;
    this.record.hidden = recording;
    this.stop.hidden = this.meter.hidden = !recording;
    this.sendButton.disabled = state !== "ready" || recording;
    this.showPlay();
    if (!recording) this.say(this.model.get("message"));
    // The pressed Approve or Deny button is gone, and with it the focus.
    const decided = this.state === "waiting" && state !== "waiting";
    if (decided && document.activeElement === document.body) {
      this.text.focus({ preventScroll: true });
    }
    this.state = state;
  }

  close() {
    clearTimeout(this.timer);
    for (const name of ["attached", "state", "message"]) {
      this.model.off(`change:${name}`, this.onState);
    }
    this.model.off("msg:custom", this.onDone);
    this.microphone.close(true);
    this.audio.pause();
    Object.values(this.urls).forEach((url) => URL.revokeObjectURL(url));
  }
}

export default {
  render({ model, el }) {
    el.classList.add("openmodels-desk");
    const part = model.get("part") === "chat" ? new Chat(model, el) : new Form(model, el);
    return () => part.close();
  },
};
