// Pictures from files, for the widgets that send them to Python. Python checks them again.
import { element } from "./element.js";

export const PICTURE_TYPES = ["image/png", "image/jpeg"];

// Return a file's picture as a canvas on white, at most limits.side pixels a side. Throws an Error
// with the reason for a file that is not a picture, has more than limits.bytes bytes or is damaged.
export async function readPicture(file, limits) {
  if (!PICTURE_TYPES.includes(file.type)) throw new Error("Choose a PNG or JPEG file.");
  if (file.size > limits.bytes) {
    throw new Error(`The file is larger than ${limits.bytes / 1e6} MB.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("The browser cannot read this picture: the file is damaged.");
  }
  const scale = Math.min(1, limits.side / Math.max(bitmap.width, bitmap.height));
  const sides = [bitmap.width, bitmap.height].map((s) => Math.max(1, Math.round(s * scale)));
  const canvas = element("canvas", { width: sides[0], height: sides[1] });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // where the picture is transparent
  context.fillRect(0, 0, ...sides);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, ...sides);
  return canvas;
}

// Return a canvas as a PNG file in an ArrayBuffer.
export async function pngOf(canvas) {
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return blob.arrayBuffer();
}
