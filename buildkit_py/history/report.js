(function () {
  "use strict";
  var steps = Array.prototype.slice.call(document.querySelectorAll("details.step"));
  var text = document.getElementById("find");
  var cached = document.getElementById("cached");
  function filter() {
    var wanted = text.value.toLowerCase();
    steps.forEach(function (step) {
      var fits = step.textContent.toLowerCase().indexOf(wanted) >= 0;
      step.hidden = !fits || (!cached.checked && step.dataset.state === "cached");
    });
  }
  function show() {
    var step = document.getElementById(location.hash.slice(1));
    if (step && step.tagName === "DETAILS") { step.hidden = false; step.open = true; step.scrollIntoView(); }
  }
  text.addEventListener("input", filter);
  cached.addEventListener("change", filter);
  document.getElementById("all").addEventListener("click", function () {
    var open = steps.some(function (step) { return !step.open; });
    steps.forEach(function (step) { step.open = open; });
  });
  window.addEventListener("hashchange", show);
  document.getElementById("tools").hidden = false;
  filter();
  show();
  document.documentElement.dataset.ready = "yes";
})();
