// The site's search, as each page starts it. scripts/site.py writes it to the site, with
// the code of the theme's worker in the place of SOURCE.
(() => {
  const source = "SOURCE";
  // The theme asks for sections that have all words. These say nothing of the subject.
  const filler = new Set(
    ("a about after an and any are as at be by can cannot could did do does doesn't don't" +
      " for from get has have how i i'm if in into is isn't it its me my no not of on or" +
      " our should so that the their them there they this to use using was we what when" +
      " where which while who why will with without won't you your").split(" "),
  );

  /** Leave out the words of a question that say nothing of its subject, if others stay. */
  function subject(question) {
    const words = question.replaceAll("’", "'").split(/[\s?!]+/);
    const told = words.filter((word) => !filler.has(word.toLowerCase()));
    return told.join(" ").trim() === "" ? question : told.join(" ");
  }

  const Given = Worker;
  window.Worker = class extends Given {
    constructor(url, options) {
      // A browser starts no worker from a file, but it starts one from text.
      const text = new Blob([source], { type: "text/javascript" });
      const here = location.protocol === "file:";
      super(here ? URL.createObjectURL(text) : url, options);
    }

    postMessage(message, ...others) {
      const question = message?.data?.input;
      if (typeof question === "string") {
        const data = { ...message.data, input: subject(question) };
        message = { ...message, data };
      }
      super.postMessage(message, ...others);
    }
  };
})();
