// Questions with buttons: a choice shows its reason; the first choice of each question counts.
function el(tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

function render({ model, el: root }) {
  const questions = model.get("questions");
  const first = new Array(questions.length).fill(null);
  const box = el("section", { class: "kml-quiz", "aria-label": model.get("title") });
  box.append(el("p", { class: "kml-quiz-title" }, model.get("title")));
  const score = el("p", { class: "kml-quiz-score", "aria-live": "polite", "data-testid": "quiz-score" });
  questions.forEach((question, number) => {
    const group = el("div", { class: "kml-quiz-question", role: "group", "aria-label": question.text });
    group.append(el("p", { class: "kml-quiz-text" }, question.text));
    const said = el("p", { class: "kml-quiz-reason", "aria-live": "polite" });
    for (const [label, reason] of question.choices) {
      const button = el("button", { type: "button", "aria-pressed": "false", "data-testid": "quiz-choice" }, label);
      button.addEventListener("click", () => {
        const right = label === question.right;
        if (first[number] === null) first[number] = right;
        for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        said.textContent = (right ? "Yes. " : "No. ") + reason;
        said.dataset.right = String(right);
        const done = first.filter((value) => value !== null).length;
        if (questions.length > 1 && done === questions.length) {
          score.textContent = `${first.filter(Boolean).length} of ${questions.length} right at the first try.`;
        }
      });
      group.append(button);
    }
    group.append(said);
    box.append(group);
  });
  box.append(score);
  root.append(box);
}

export default { render };
