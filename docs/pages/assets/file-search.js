/* Browsers start no workers on pages that are opened as files. There a hidden frame does the search's
   work instead, so that the site needs no server. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      this.inside = frame.contentWindow
      const script = this.inside.document.createElement("script")
      script.src = url
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inside.document.documentElement.append(script)
      this.loaded = new Promise(done => script.addEventListener("load", done))
    }

    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
