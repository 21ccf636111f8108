// What the server wrote into the page: which page it is, the languages, and the ids of its documents.

export const facts = JSON.parse(document.getElementById("facts").textContent);
