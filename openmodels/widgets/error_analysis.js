// The browser's half of the error analysis. All texts are set as text, never as HTML; the Python
// half checks what it is sent, and stores it.
import { element } from "./element.js";

const TEXTS = { input: "Input", output: "Output", target: "Target" };
const NOTE_DELAY = 400; // milliseconds after the last key until a note is sent

class Analysis {
  constructor(model, root) {
    this.model = model;
    this.timer = null;
    this.drafts = {}; // what was typed and is not yet among the stored notes
    this.build(root);
    this.onState = () => this.show();
    for (const name of ["notes", "codes", "message", "position"]) {
      model.on(`change:${name}`, this.onState);
    }
    this.show();
  }

  // ---------------------------------------------------------------- parts
  button(parent, text, handler, label = text) {
    const button = element("button", { type: "button", textContent: text }, parent);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", handler);
    return button;
  }

  build(root) {
    const area = element("div", { className: "error-analysis", tabIndex: 0 }, root);
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", "Error analysis: arrow keys change the case, 1 to 9 set codes");
    area.setAttribute("data-lm-suppress-shortcuts", "true");
    area.addEventListener("keydown", (event) => this.key(event));
    this.area = area;

    const head = element("div", { className: "row" }, area);
    this.previous = this.button(head, "←", () => this.move(-1), "previous case");
    this.next = this.button(head, "→", () => this.move(1), "next case");
    this.open = this.button(head, "Next without a code", () => this.moveToOpen());
    this.title = element("span", { className: "title" }, head);
    this.title.setAttribute("role", "status");

    const list = element("dl", {}, area);
    this.fields = Object.entries(TEXTS).map(([name, label]) => {
      element("dt", { textContent: label }, list);
      return [name, element("dd", { className: name }, list)];
    });

    this.codeRow = element("div", { className: "row codes" }, area);
    this.codeRow.setAttribute("role", "group");
    this.codeRow.setAttribute("aria-label", "Codes");
    const addRow = element("div", { className: "row" }, area);
    this.newCode = element("input", { type: "text", placeholder: "new code" }, addRow);
    this.newCode.maxLength = this.model.get("limits").code;
    this.newCode.setAttribute("aria-label", "new code");
    this.newCode.addEventListener("keydown", (event) => {
      event.stopPropagation(); // JupyterLab has shortcuts of single letters
      if (event.key === "Enter") this.addCode();
    });
    this.button(addRow, "Add code", () => this.addCode());

    const label = element("label", { className: "note" }, area);
    element("span", { textContent: "Note: what went wrong first?" }, label);
    this.note = element("textarea", { rows: 2 }, label);
    this.note.maxLength = this.model.get("limits").note;
    this.note.addEventListener("keydown", (event) => event.stopPropagation());
    this.note.addEventListener("input", () => {
      this.draft().note = this.note.value;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.flush(), NOTE_DELAY);
    });
    this.note.addEventListener("blur", () => this.flush());

    this.message = element("div", { className: "message" }, area);
    this.message.setAttribute("role", "alert");
    this.counts = element("table", {}, area);
    const place = `Stored in ${this.model.get("place")}`;
    element("div", { className: "place", textContent: place }, area);
  }

  // ---------------------------------------------------------------- cases
  get traces() {
    return this.model.get("traces");
  }

  get current() {
    return this.traces[this.model.get("position")];
  }

  stored(id) {
    return this.drafts[id] ?? this.model.get("notes")[id] ?? { codes: [], note: "" };
  }

  draft() {
    const { id } = this.current;
    const { codes, note } = this.stored(id);
    this.drafts[id] ??= { codes: [...codes], note };
    return this.drafts[id];
  }

  moveTo(position) {
    this.flush();
    this.model.set("position", Math.max(0, Math.min(this.traces.length - 1, position)));
    this.model.save_changes();
    this.show();
  }

  move(step) {
    this.moveTo(this.model.get("position") + step);
  }

  moveToOpen() {
    const count = this.traces.length;
    const start = this.model.get("position");
    for (let step = 1; step <= count; step += 1) {
      const position = (start + step) % count;
      if (!this.stored(this.traces[position].id).codes.length) {
        this.moveTo(position);
        return;
      }
    }
  }

  // ---------------------------------------------------------------- codes and notes
  toggle(code) {
    const draft = this.draft();
    const has = draft.codes.includes(code);
    if (!has && draft.codes.length >= this.model.get("limits").codes) return;
    draft.codes = has ? draft.codes.filter((other) => other !== code) : [...draft.codes, code];
    this.flush();
    this.show();
  }

  addCode() {
    const code = this.newCode.value.trim();
    if (!code) return;
    this.newCode.value = "";
    if (!this.stored(this.current.id).codes.includes(code)) this.toggle(code);
  }

  flush() {
    clearTimeout(this.timer);
    for (const [id, { codes, note }] of Object.entries(this.drafts)) {
      this.model.send({ kind: "note", id, codes, note });
    }
  }

  // Forget a draft once the kernel has the same; any other is sent again with the next change.
  settle() {
    const notes = this.model.get("notes");
    for (const [id, draft] of Object.entries(this.drafts)) {
      if (JSON.stringify(notes[id]) === JSON.stringify({ codes: draft.codes, note: draft.note })) {
        delete this.drafts[id];
      }
    }
  }

  key(event) {
    event.stopPropagation();
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const number = Number(event.key);
    const code = this.shownCodes()[number - 1];
    if (event.key === "ArrowRight") this.move(1);
    else if (event.key === "ArrowLeft") this.move(-1);
    else if (number >= 1 && code !== undefined) this.toggle(code);
    else return;
    event.preventDefault();
  }

  // ---------------------------------------------------------------- showing
  shownCodes() {
    const drafted = Object.values(this.drafts).flatMap((draft) => draft.codes);
    return [...new Set([...this.model.get("codes"), ...drafted])];
  }

  show() {
    this.settle();
    const { id } = this.current;
    const position = this.model.get("position");
    const { codes, note } = this.stored(id);
    this.previous.disabled = position === 0;
    this.next.disabled = position === this.traces.length - 1;
    const coded = this.traces.filter((trace) => this.stored(trace.id).codes.length).length;
    const count = this.traces.length;
    this.title.textContent = `Case ${position + 1} of ${count} · ${coded} of ${count} coded`;
    this.open.disabled = coded === count;
    for (const [name, node] of this.fields) node.textContent = this.current[name] || "(empty)";
    this.showCodes(codes);
    if (document.activeElement !== this.note || this.shown !== id) this.note.value = note;
    this.shown = id;
    this.message.textContent = this.model.get("message");
    this.showCounts(count);
  }

  showCodes(codes) {
    const texts = this.shownCodes();
    if (this.codeRow.dataset.codes !== JSON.stringify(texts)) {
      const focused = document.activeElement?.dataset?.code;
      this.codeRow.replaceChildren();
      texts.forEach((code, place) => {
        const text = place < 9 ? `${place + 1} ${code}` : code;
        const button = this.button(this.codeRow, text, () => this.toggle(code), code);
        button.dataset.code = code;
        if (code === focused) button.focus();
      });
      this.codeRow.dataset.codes = JSON.stringify(texts);
    }
    for (const button of this.codeRow.children) {
      button.setAttribute("aria-pressed", String(codes.includes(button.dataset.code)));
    }
  }

  showCounts(total) {
    const counts = new Map(this.shownCodes().map((code) => [code, 0]));
    for (const { id } of this.traces) {
      for (const code of this.stored(id).codes) counts.set(code, (counts.get(code) ?? 0) + 1);
    }
    const rows = [...counts].sort((a, b) => b[1] - a[1]);
    this.counts.replaceChildren();
    const head = element("tr", {}, this.counts);
    for (const text of ["Code", "Cases", ""]) element("th", { textContent: text }, head);
    for (const [code, count] of rows) {
      const row = element("tr", {}, this.counts);
      element("td", { textContent: code }, row);
      element("td", { textContent: count, className: "number" }, row);
      const bar = element("div", { className: "bar" }, element("td", {}, row));
      bar.style.width = `${Math.round((200 * count) / total)}px`;
    }
  }

  close() {
    this.flush();
    for (const name of ["notes", "codes", "message", "position"]) {
      this.model.off(`change:${name}`, this.onState);
    }
  }
}

export default {
  render({ model, el }) {
    const analysis = new Analysis(model, el);
    return () => analysis.close();
  },
};
