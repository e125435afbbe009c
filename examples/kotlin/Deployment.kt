// The class of a photo on Android, by a deployment of hwnas and LiteRT: every step of its manifest, in Kotlin.
//
// Not tested: nobody has compiled or run this file yet. The same steps in C++ (../cpp/preprocessing.hpp) are held against
// Python bit for bit; take them through JNI where that counts.
//
// Gradle: implementation("com.google.ai.edge.litert:litert:2.3.0"). The folder of the deployment lies in the app's assets:
//
//     Deployment.load(context.assets, "cpu_best").use { network -> network.predict(photo).maxBy { it.share }.name }
//
// `photo` is a Bitmap that is turned as it is to be seen. ImageDecoder turns photos by their EXIF data (BitmapFactory does
// not), and applies colour profiles, which training did not; JPEG decoders differ by a level or two.

package example.hwnas

import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.Color
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.rint
import org.json.JSONArray
import org.json.JSONObject

/** One class: its share of the softmax, and its logit. */
data class Prediction(val name: String, val share: Double, val logit: Float)

class Deployment private constructor(private val manifest: JSONObject, private val model: CompiledModel) : AutoCloseable {
    private val artefact = manifest.getJSONObject("artefact")
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    companion object {
        fun load(assets: AssetManager, folder: String): Deployment {
            val text = assets.open("$folder/manifest.json").bufferedReader().use { it.readText() }
            val manifest = JSONObject(text)
            val file = manifest.getJSONObject("artefact").getString("path")
            return Deployment(manifest, CompiledModel.create(assets, "$folder/$file", CompiledModel.Options(Accelerator.CPU)))
        }
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }

    /** The classes in the order of the manifest. One thread at a time. */
    fun predict(photo: Bitmap): List<Prediction> {
        val input = preprocess(photo, manifest.getJSONArray("preprocessing"))
        val given = artefact.getJSONObject("input")
        when (val dtype = given.getString("dtype")) {
            "float32" -> inputs[0].writeFloat(laidOut(input, given))
            "int8" -> inputs[0].writeInt8(quantized(laidOut(input, given), given))
            else -> error("the artefact takes $dtype, which this program does not know")
        }
        model.run(inputs, outputs)
        val result = artefact.getJSONObject("output")
        val logits = when (val dtype = result.getString("dtype")) {
            "float32" -> outputs[0].readFloat()
            "int8" -> dequantized(outputs[0].readInt8(), result)
            else -> error("the artefact gives $dtype, which this program does not know")
        }
        val largest = logits.max().toDouble()
        val powers = logits.map { exp(it - largest) }
        val names = manifest.getJSONArray("classes")
        return logits.indices.map { Prediction(names.getString(it), powers[it] / powers.sum(), logits[it]) }
    }
}

// ---------------------------------------------------------------- images

/** Values row by row, (H, W, C): whole numbers from 0 to 255 until they are scaled. */
private class Image(val height: Int, val width: Int, val channels: Int) {
    val values = DoubleArray(height * width * channels)

    fun at(y: Int, x: Int, c: Int) = (y * width + x) * channels + c
}

private fun read(photo: Bitmap, step: JSONObject): Image {
    val channels = step.getInt("channels")
    val ground = mapOf("white" to 255, "grey" to 128, "black" to 0).getValue(step.getString("ground"))
    val colours = IntArray(photo.width * photo.height)
    photo.getPixels(colours, 0, photo.width, 0, 0, photo.width, photo.height) // not premultiplied
    val image = Image(photo.height, photo.width, channels)
    colours.forEachIndexed { i, colour ->
        val alpha = Color.alpha(colour)
        // on the ground, to a level what Pillow's `alpha_composite` gives
        fun seen(value: Int) = (value * alpha + ground * (255 - alpha) + 127) / 255
        val (r, g, b) = Triple(seen(Color.red(colour)), seen(Color.green(colour)), seen(Color.blue(colour)))
        if (channels == 3) {
            image.values[3 * i] = r.toDouble()
            image.values[3 * i + 1] = g.toDouble()
            image.values[3 * i + 2] = b.toDouble()
        } else { // ITU-R 601 luma, in integers as in training
            image.values[i] = ((19595 * r + 38470 * g + 7471 * b + (1 shl 15)) shr 16).toDouble()
        }
    }
    return image
}

// ---------------------------------------------------------------- the steps

private fun preprocess(photo: Bitmap, steps: JSONArray): Image {
    val first = steps.getJSONObject(0)
    check(first.getString("step") == "decode") { "the network was trained on arrays: nothing says how a photo becomes one" }
    var image = read(photo, first)
    for (i in 1 until steps.length()) {
        val step = steps.getJSONObject(i)
        image = when (val name = step.getString("step")) {
            "crop" -> centreSquare(image)
            "resize" -> resized(image, step.getInt("height"), step.getInt("width"), step.getString("rounding") == "uint8")
            "pixels", "layout" -> image // what the steps before lead to; `laidOut` below
            "scale" -> changed(image) { value, _ -> value.toFloat() / step.getInt("divide_by") }
            "normalise" -> {
                val (mean, std) = listOf("mean", "std").map(step::getJSONArray)
                changed(image) { value, c -> (value.toFloat() - mean.getDouble(c).toFloat()) / std.getDouble(c).toFloat() }
            }
            else -> error("the manifest has the step $name, which this program does not know")
        }
    }
    return image
}

private fun changed(image: Image, change: (Double, Int) -> Float): Image {
    for (i in image.values.indices) image.values[i] = change(image.values[i], i % image.channels).toDouble()
    return image
}

private fun centreSquare(image: Image): Image {
    val side = min(image.height, image.width)
    val top = (image.height - side) / 2
    val left = (image.width - side) / 2
    val out = Image(side, side, image.channels)
    for (y in 0 until side) for (x in 0 until side) for (c in 0 until image.channels) {
        out.values[out.at(y, x, c)] = image.values[image.at(top + y, left + x, c)]
    }
    return out
}

/** What one new pixel is made of: old ones from `first` on, with these weights. */
private class Taps(val first: Int, val weights: DoubleArray)

/** For each of `side` new pixels: a triangle as wide as the reduction, cut off at the border and scaled to the sum 1. */
private fun taps(size: Int, side: Int): List<Taps> {
    val scale = size.toDouble() / side
    val reach = max(scale, 1.0)
    return List(side) { i ->
        val centre = (i + 0.5) * scale
        val first = max((centre - reach + 0.5).toInt(), 0)
        val end = min((centre + reach + 0.5).toInt(), size)
        val weights = DoubleArray(end - first) { max(1.0 - abs((first + it - centre + 0.5) * (1.0 / reach)), 0.0) }
        var sum = 0.0
        for (weight in weights) sum += weight
        Taps(first, DoubleArray(weights.size) { weights[it] / sum })
    }
}

private const val UNIT = (1 shl 22).toDouble() // of the weights of eight-bit images, whose sums are exact

/** The width first; whole values are rounded after each, ties up, others to 32 bits at the end. */
private fun resized(image: Image, height: Int, width: Int, whole: Boolean): Image {
    if (image.height == height && image.width == width) return image
    val wide = if (whole && image.width == width) image else along(image, width, isWidth = true, whole = whole)
    val both = if (whole && image.height == height) wide else along(wide, height, isWidth = false, whole = whole)
    return if (whole) both else changed(both) { value, _ -> value.toFloat() }
}

private fun along(image: Image, side: Int, isWidth: Boolean, whole: Boolean): Image {
    val taps = taps(if (isWidth) image.width else image.height, side)
    if (whole) taps.forEach { of -> for (k in of.weights.indices) of.weights[k] = floor(of.weights[k] * UNIT + 0.5) }
    val out = if (isWidth) Image(image.height, side, image.channels) else Image(side, image.width, image.channels)
    for (y in 0 until out.height) for (x in 0 until out.width) for (c in 0 until out.channels) {
        val of = taps[if (isWidth) x else y]
        var sum = 0.0
        for (k in of.weights.indices) {
            val from = if (isWidth) image.at(y, of.first + k, c) else image.at(of.first + k, x, c)
            sum += image.values[from] * of.weights[k]
        }
        out.values[out.at(y, x, c)] = if (whole) floor(sum / UNIT + 0.5).coerceIn(0.0, 255.0) else sum
    }
    return out
}

// ---------------------------------------------------------------- the artefact's own tensors

/** (H, W, C) -> the artefact's order. */
private fun laidOut(image: Image, spec: JSONObject): FloatArray {
    val plane = image.height * image.width
    val channelsLast = spec.getString("layout") == "NHWC"
    return FloatArray(image.values.size) { i ->
        image.values[if (channelsLast) i else (i % plane) * image.channels + i / plane].toFloat()
    }
}

private fun quantized(values: FloatArray, spec: JSONObject): ByteArray {
    val scale = spec.getDouble("scale").toFloat()
    val zeroPoint = spec.getInt("zero_point").toFloat()
    // ties to even
    return ByteArray(values.size) { i -> (rint(values[i] / scale) + zeroPoint).coerceIn(-128f, 127f).toInt().toByte() }
}

private fun dequantized(values: ByteArray, spec: JSONObject): FloatArray {
    val scale = spec.getDouble("scale").toFloat()
    val zeroPoint = spec.getInt("zero_point").toFloat()
    return FloatArray(values.size) { i -> (values[i].toFloat() - zeroPoint) * scale }
}
