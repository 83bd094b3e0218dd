// The drawing pad's half in the browser. It sends PNG bytes; the Python half checks them.
import { element } from "./element.js";
import { pngOf, readPicture } from "./pictures.js";

const BRUSHES = { small: 4, medium: 10, large: 22 };
const TOOLS = { brush: "Brush", fill: "Fill", flag: "Flag stamp" };
const FLAG = { width: 44, height: 32, edge: "rgb(60, 60, 60)" };
const UNDO_STEPS = 30;
const SHOWN_WIDTH = 448; // CSS pixels of a small picture
const STEP = 7; // pixels of one arrow key
const TOLERANCE = 12; // per channel, of a fill

let padCount = 0;

const css = (rgb) => `rgb(${rgb.join(", ")})`;

function flood(context, startX, startY, rgb) {
  const { width, height } = context.canvas;
  const image = context.getImageData(0, 0, width, height);
  const data = image.data;
  const start = 4 * (startY * width + startX);
  const from = [data[start], data[start + 1], data[start + 2]];
  const same = (at) => from.every((value, c) => Math.abs(data[at + c] - value) <= TOLERANCE);
  const done = new Uint8Array(width * height);
  const stack = [startY * width + startX];
  while (stack.length) {
    const pixel = stack.pop();
    if (done[pixel] || !same(4 * pixel)) continue;
    done[pixel] = 1;
    const x = pixel % width;
    if (x > 0) stack.push(pixel - 1);
    if (x < width - 1) stack.push(pixel + 1);
    if (pixel >= width) stack.push(pixel - width);
    if (pixel < width * (height - 1)) stack.push(pixel + width);
  }
  done.forEach((filled, pixel) => {
    if (filled) data.set([...rgb, 255], 4 * pixel);
  });
  context.putImageData(image, 0, 0);
}

class Pad {
  constructor(model, root) {
    this.model = model;
    this.number = ++padCount;
    this.tool = "brush";
    this.colour = Object.keys(model.get("palette"))[0];
    this.brush = "medium";
    this.history = [];
    this.stroke = null;
    this.sent = []; // pictures sent lately, so that their echoes are not drawn again
    this.build(root);
    this.listen();
    this.showPicture();
    this.showState();
  }

  // ---------------------------------------------------------------- controls
  row(name, root) {
    const row = element("div", { className: "row" }, root);
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", name);
    element("span", { className: "name", textContent: name }, row);
    return row;
  }

  choice(row, values, field, label, style = () => {}) {
    const buttons = Object.keys(values).map((key) => {
      const button = element("button", { type: "button" }, row);
      button.dataset[field] = key;
      button.setAttribute("aria-label", label(key));
      button.title = label(key);
      style(button, key);
      button.addEventListener("click", () => {
        this[field] = key;
        mark();
      });
      return button;
    });
    const mark = () =>
      buttons.forEach((button) =>
        button.setAttribute("aria-pressed", String(button.dataset[field] === this[field])),
      );
    mark();
  }

  action(row, text, handler, className = "") {
    const button = element("button", { type: "button", textContent: text, className }, row);
    button.addEventListener("click", handler);
    return button;
  }

  build(root) {
    const pad = element("div", { className: "drawing-pad" }, root);
    const palette = this.model.get("palette");
    this.choice(this.row("Colour", pad), palette, "colour", (key) => `colour ${key}`, (b, key) => {
      b.classList.add("colour");
      b.style.background = css(palette[key]);
    });
    this.choice(this.row("Tool", pad), TOOLS, "tool", (key) => TOOLS[key], (b, key) => {
      b.textContent = TOOLS[key];
    });
    this.choice(this.row("Brush", pad), BRUSHES, "brush", (key) => `${key} brush`, (b, key) => {
      b.textContent = key;
    });
    const frame = element("div", { className: "frame" }, pad);
    this.canvas = element("canvas", { tabIndex: 0 }, frame);
    this.canvas.setAttribute("role", "application");
    const help = "Drawing. Arrow keys move the cursor; the space bar uses the tool.";
    this.canvas.setAttribute("aria-label", help);
    this.cursor = element("div", { className: "cursor" }, frame);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.buildActions(pad);
    this.buildQuestion(pad);
    this.answer = element("div", { className: "answer" }, pad);
    this.answer.setAttribute("role", "status");
    this.message = element("div", { className: "message" }, pad);
    this.message.setAttribute("role", "alert");
    const keys = "Keyboard: focus the drawing, move with the arrow keys, press the space bar.";
    element("div", { className: "hint", textContent: keys }, pad);
  }

  buildActions(pad) {
    const row = element("div", { className: "row" }, pad);
    this.undoButton = this.action(row, "Undo", () => this.undo());
    this.action(row, "Clear", () => this.clear());
    const label = element("label", { className: "file", textContent: "Load a picture" }, row);
    this.file = element("input", { type: "file", accept: "image/png,image/jpeg" }, label);
    this.file.setAttribute("aria-label", "Load a picture (PNG or JPEG)");
    this.file.addEventListener("change", () => this.loadFile(this.file.files[0]));
  }

  buildQuestion(pad) {
    this.questionRow = element("div", { className: "row" }, pad);
    const id = `drawing-pad-question-${this.number}`;
    element("label", { textContent: "Question", htmlFor: id }, this.questionRow);
    this.question = element("input", { type: "text", id }, this.questionRow);
    this.question.maxLength = this.model.get("limits").question;
    this.question.addEventListener("keydown", (event) => {
      event.stopPropagation(); // JupyterLab has shortcuts of single letters
      if (event.key === "Enter") this.ask();
    });
    this.askButton = this.action(this.questionRow, "Ask", () => this.ask(), "ask");
  }

  // ---------------------------------------------------------------- drawing
  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) / frame.width) * this.canvas.width,
      ((event.clientY - frame.top) / frame.height) * this.canvas.height,
    ];
  }

  rgb() {
    return this.model.get("palette")[this.colour];
  }

  remember() {
    const { width, height } = this.canvas;
    this.history.push(this.context.getImageData(0, 0, width, height));
    if (this.history.length > UNDO_STEPS) this.history.shift();
    this.undoButton.disabled = false;
  }

  apply([x, y]) {
    if (this.tool === "fill") {
      const pixel = [x, y].map(Math.floor);
      const [width, height] = [this.canvas.width, this.canvas.height];
      if (pixel[0] >= 0 && pixel[0] < width && pixel[1] >= 0 && pixel[1] < height) {
        flood(this.context, ...pixel, this.rgb());
      }
    } else if (this.tool === "flag") {
      const corner = [Math.round(x - FLAG.width / 2), Math.round(y - FLAG.height / 2)];
      this.context.fillStyle = FLAG.edge;
      this.context.fillRect(...corner, FLAG.width, FLAG.height);
      this.context.fillStyle = css(this.rgb());
      this.context.fillRect(corner[0] + 1, corner[1] + 1, FLAG.width - 2, FLAG.height - 2);
    } else {
      this.line([x, y], [x, y]);
    }
  }

  line(from, to) {
    const context = this.context;
    context.strokeStyle = css(this.rgb());
    context.lineWidth = BRUSHES[this.brush];
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.remember();
      this.stroke = this.place(event);
      this.apply(this.stroke);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.stroke || this.tool !== "brush") return;
      const to = this.place(event);
      this.line(this.stroke, to);
      this.stroke = to;
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        if (this.stroke) this.send();
        this.stroke = null;
      });
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.onPicture = () => this.showPicture();
    this.onState = () => this.showState();
    this.model.on("change:picture", this.onPicture);
    for (const name of ["answer", "message", "busy", "can_ask", "question"]) {
      this.model.on(`change:${name}`, this.onState);
    }
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    if (move) {
      const ends = [this.canvas.width - 1, this.canvas.height - 1];
      this.at = this.at.map((v, axis) => Math.max(0, Math.min(ends[axis], v + STEP * move[axis])));
      this.moveCursor();
      return;
    }
    this.remember();
    this.apply(this.at);
    this.send();
  }

  moveCursor() {
    this.cursor.style.left = `${(100 * this.at[0]) / this.canvas.width}%`;
    this.cursor.style.top = `${(100 * this.at[1]) / this.canvas.height}%`;
  }

  undo() {
    const image = this.history.pop();
    if (!image) return;
    this.resize(image.width, image.height);
    this.context.putImageData(image, 0, 0);
    this.undoButton.disabled = !this.history.length;
    this.send();
  }

  clear() {
    this.remember();
    this.context.fillStyle = css(this.model.get("palette").sea);
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.send();
  }

  resize(width, height) {
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.canvas.style.width = `${Math.max(width, SHOWN_WIDTH)}px`;
    this.at = [Math.floor(width / 2), Math.floor(height / 2)];
    this.moveCursor();
  }

  // ---------------------------------------------------------------- pictures in and out
  async loadFile(file) {
    this.file.value = "";
    if (!file) return;
    let picture;
    try {
      picture = await readPicture(file, this.model.get("limits"));
    } catch (error) {
      this.message.textContent = error.message;
      return;
    }
    this.message.textContent = "";
    this.remember();
    this.resize(picture.width, picture.height);
    this.context.drawImage(picture, 0, 0);
    this.send();
  }

  async bytes() {
    return new DataView(await pngOf(this.canvas));
  }

  fingerprint(view) {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    return `${bytes.length} ${String.fromCharCode(...bytes.slice(-4096))}`;
  }

  note(view) {
    this.sent = [...this.sent.slice(-20), this.fingerprint(view)];
  }

  async send() {
    const view = await this.bytes();
    this.note(view);
    this.model.set("picture", view);
    this.model.save_changes();
  }

  async ask() {
    if (this.askButton.disabled) return;
    const view = await this.bytes();
    this.note(view);
    this.model.send({ kind: "ask", question: this.question.value }, undefined, [view.buffer]);
  }

  async showPicture() {
    const view = this.model.get("picture");
    if (!view || !view.byteLength || this.sent.includes(this.fingerprint(view))) return;
    const bitmap = await createImageBitmap(new Blob([view], { type: "image/png" }));
    if (this.canvas.dataset.ready) this.remember();
    this.resize(bitmap.width, bitmap.height);
    this.context.drawImage(bitmap, 0, 0);
    this.undoButton.disabled = !this.history.length;
    this.canvas.dataset.ready = "yes";
  }

  showState() {
    const busy = this.model.get("busy");
    if (document.activeElement !== this.question) {
      this.question.value = this.model.get("question");
    }
    this.questionRow.style.display = this.model.get("can_ask") ? "" : "none";
    this.askButton.disabled = busy;
    this.answer.textContent = busy ? "Asking the model" : this.model.get("answer");
    this.message.textContent = this.model.get("message");
  }

  close() {
    this.model.off("change:picture", this.onPicture);
    for (const name of ["answer", "message", "busy", "can_ask", "question"]) {
      this.model.off(`change:${name}`, this.onState);
    }
  }
}

export default {
  render({ model, el }) {
    const pad = new Pad(model, el);
    return () => pad.close();
  },
};
